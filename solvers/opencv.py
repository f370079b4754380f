"""OpenCV 4 as the other engine: its Caffe importer runs the same net on the same inputs."""

import os
import tempfile

import numpy as np

from netspec import caffe_pb2, text
from netspec.errors import Error
from solvers import nets
from solvers.dumps import Dump


def blobs_of(message, net, made):
    """Let OpenCV's Caffe importer run the same net on the same inputs; return the `Dump` of what it computed.

    `made` maps blobs to the layers that write them, as `made_by` returns.
    """
    cv2 = _opencv()
    blobs = {}
    with tempfile.TemporaryDirectory(prefix="deepjet-") as folder:
        prototxt, caffemodel = os.path.join(folder, "deploy.prototxt"), os.path.join(folder, "weights.caffemodel")
        plain = caffe_pb2.NetParameter()
        plain.CopyFrom(message)
        plain.ClearField("state")  # OpenCV's own schema may not know what it does not need
        with open(prototxt, "w", encoding="utf-8") as file:
            file.write(text.dump(plain))
        nets.save(caffemodel, message, net.params)
        try:
            engine = cv2.dnn.readNetFromCaffe(prototxt, caffemodel)
            engine.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
            engine.enableFusion(False)  # a fused layer has no output of its own
            if hasattr(engine, "enableWinograd"):
                engine.enableWinograd(False)  # it is quicker and less exact
            for name in net.inputs:
                engine.setInput(net.blobs[name].data, name)
            there = set(engine.getLayerNames())
            wanted = {}
            for blob, layers in made.items():
                # OpenCV names a layer after its first top, but one that works in place keeps its own name.
                names = [layers[-1]] if len(layers) > 1 else [blob, layers[-1]]
                name = next((name for name in names if name in there), None)
                if name and blob not in net.inputs:
                    wanted[blob] = name
            outputs = engine.forward(list(wanted.values()))
        except cv2.error as error:
            raise Error(f"OpenCV {cv2.__version__} cannot run this net: {' '.join(str(error).split())}") from None
    for blob, output in zip(wanted, outputs):
        output = output[0] if isinstance(output, (tuple, list)) else output
        blobs[blob] = np.array(output)
    return Dump.of(blobs)


def _opencv():
    try:
        import cv2
    except ImportError:
        raise Error("--against opencv needs OpenCV 4, which is not installed: "
                    "pip install 'opencv-python-headless<5'") from None
    if not hasattr(getattr(cv2, "dnn", None), "readNetFromCaffe") or int(cv2.__version__.split(".")[0]) >= 5:
        raise Error(f"--against opencv needs OpenCV 4; version {cv2.__version__} has no Caffe importer any more: "
                    "pip install 'opencv-python-headless<5'")
    return cv2
