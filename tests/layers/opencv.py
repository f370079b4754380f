"""OpenCV 4's Caffe importer as a second opinion on the layers of forks that it knows."""

import numpy as np
import pytest

from netspec import caffe_pb2, forks, text


def opencv(layer, bottoms, params=()):
    """Return what OpenCV makes of one layer's bottoms (4 axes each); `layer` is as for `make_layer`. Skips without OpenCV 4."""
    cv2 = pytest.importorskip("cv2")
    if int(cv2.__version__.split(".")[0]) >= 5:
        pytest.skip("OpenCV 5 has no Caffe importer")
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
    engine = cv2.dnn.readNetFromCaffe(np.frombuffer(prototxt, np.uint8), np.frombuffer(forks.serialize(net), np.uint8))
    engine.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    for number, values in enumerate(bottoms):
        engine.setInput(np.asarray(values, "f4"), f"bottom_{number}")
    return engine.forward("it")
