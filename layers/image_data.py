"""ImageData: batches of picture files from a list, with an integer label each.

    layer { name: "data" type: "ImageData" top: "data" top: "label"
            transform_param { mirror: true crop_size: 227 mean_value: 104 mean_value: 117 mean_value: 123 }
            image_data_param { source: "train.txt" root_folder: "images/" batch_size: 32 shuffle: true
                               new_height: 256 new_width: 256 } }

A line of `source` is ``path label``; `root_folder` is put before the path as it is. Tops: pictures (batch_size, channels,
height, width), transformed by `data.transformer`, and labels (batch_size). `is_color` (true) gives 3 channels BGR, else 1.
`new_height` and `new_width`, both or none, resize as OpenCV does. All pictures of a batch must have one size; with batch_size
1 each may have its own. `shuffle` draws another order in every round; `rand_skip` steps over a random number of lines at the
beginning, less than it says. `data_param { prefetch: 4 }` says how many batches are read ahead (0 for none).

A picture that is missing or cannot be read is an `Error` that names it, the list and the line; none is left out. Paths are
looked for as given, beside the list and from the project's root. Source: Caffe's ImageDataLayer.
"""

import numpy as np

from data.decode import decode
from data.lists import ImageList
from data.resize import resize
from data.transformer import Transformer
from layers.core.batches import Batches, Source
from layers.core.rng import Stream
from netspec import files
from netspec.errors import Error


class ImageData(Batches):
    """Read pictures from a list."""

    def check(self):
        """Refuse what is missing."""
        param = self.param.image_data_param
        if not param.source:
            self.fail("image_data_param has no 'source': a text file with a path and a label a line")
        if param.batch_size < 1:
            self.fail("image_data_param has batch_size 0; give the number of pictures in a batch")
        if bool(param.new_height) != bool(param.new_width):
            self.fail(f"new_height is {param.new_height} and new_width {param.new_width}; give both or none")

    def open(self):
        """Return the list as a source."""
        listed = ImageList(files.find(self.param.image_data_param.source, self.prototxt, "image list"))
        transformer = Transformer(self.param.transform_param, self.is_training, self.prototxt, self.dtype)
        return ListSource(listed, transformer, self.param.image_data_param)


class ListSource(Source):
    """Pictures of a list, in its order or shuffled, over and over."""

    def __init__(self, listed, transformer, param):
        self.listed, self.transformer, self.param, self.batch = listed, transformer, param, param.batch_size

    def begin(self, rng):
        """Return the state before the first picture."""
        skip = rng(self.param.rand_skip) if self.param.rand_skip else 0
        if skip >= len(self.listed):
            raise Error(f"rand_skip drew {skip}, but '{self.listed.path}' has only {len(self.listed)} pictures; make it smaller")
        return {"row": skip, "order": rng(2**32), "count": len(self.listed)}

    def first_shape(self):
        """Return the shape of the list's first picture, transformed."""
        picture, what = self._picture(0)
        return self.transformer.shape(picture.shape, what)

    def check(self, state):
        """Refuse the state of a list of another length."""
        if state["count"] != len(self.listed):
            raise Error(f"the data order to restore is of a list of {state['count']} pictures, '{self.listed.path}' now has "
                        f"{len(self.listed)}")

    def items(self, state, rng):
        """Yield the pictures from `state` on."""
        row, seed, count = state["row"], state["order"], len(self.listed)
        order = self._order(seed)
        while True:
            picture, what = self._picture(int(order[row]))

            def fill(out, picture=picture, what=what):
                self.transformer(picture, out, rng, what)

            label = self.listed.entries[int(order[row])][1]
            row += 1
            if row == count:
                row, seed = 0, seed + 1
                order = self._order(seed)
            yield what, self.transformer.shape(picture.shape, what), label, fill, {"row": row, "order": seed, "count": count}

    def _order(self, seed):
        """Return the order of a round."""
        count = len(self.listed)
        return Stream(seed).generator().permutation(count) if self.param.shuffle else np.arange(count)

    def _picture(self, index):
        """Return ((C, H, W) uint8, how errors call it) of an entry of the list."""
        path, what = self.listed.find(index, self.param.root_folder)
        picture = decode(path, self.param.is_color, what=what)
        if self.param.new_height:
            picture = resize(picture, self.param.new_height, self.param.new_width)
        return picture.transpose(2, 0, 1), f"{what} '{path}'"
