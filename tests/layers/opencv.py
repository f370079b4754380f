"""OpenCV 4's Caffe importer as a second opinion on the layers of forks that it knows."""

import numpy as np
import pytest

from netspec import caffe_pb2, forks, text


class OpenCV:
    """A net in OpenCV, of the bytes of a prototxt and of a caffemodel. Skips the test without OpenCV 4."""

    def __init__(self, prototxt, caffemodel):
        cv2 = pytest.importorskip("cv2")
        if int(cv2.__version__.split(".")[0]) >= 5:
            pytest.skip("OpenCV 5 has no Caffe importer")
        self.engine = cv2.dnn.readNetFromCaffe(np.frombuffer(prototxt, np.uint8), np.frombuffer(caffemodel, np.uint8))
        self.engine.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)

    def forward(self, inputs, blob):
        """Return a blob for the inputs, a dict."""
        for name, values in inputs.items():
            self.engine.setInput(np.asarray(values, "f4"), name)
        return self.engine.forward(blob)


def opencv(layer, bottoms, params=()):
    """Return what OpenCV makes of one layer's bottoms; `layer` is as for `make_layer`."""
    param = text.parse(layer, caffe_pb2.LayerParameter())
    param.name = param.name or "it"
    net = caffe_pb2.NetParameter()
    for number, values in enumerate(bottoms):
        source = net.layer.add(name=f"bottom_{number}", type="Input", top=[f"bottom_{number}"])
        source.input_param.shape.add(dim=np.shape(values))
    made = net.layer.add()
    made.CopyFrom(param)
    del made.bottom[:], made.top[:]
    made.bottom.extend(f"bottom_{number}" for number in range(len(bottoms)))
    made.top.append("it")
    prototxt = text.dump(net).encode()
    for values in params:
        blob = made.blobs.add(data=np.asarray(values, "f4").ravel())
        blob.shape.dim.extend(np.shape(values) or (1,))
    inputs = {f"bottom_{number}": values for number, values in enumerate(bottoms)}
    return OpenCV(prototxt, forks.serialize(net)).forward(inputs, "it")
