"""pycaffe's `caffe.coord_map`: where a layer's output lies on its input, and the crop that aligns two blobs."""

import sys

from netspec import coord_map

sys.modules[__name__] = coord_map
