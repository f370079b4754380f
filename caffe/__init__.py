"""pycaffe's names over deepjet, so that scripts which `import caffe` run unchanged.

Nothing of the house imports this package; whatever it does is done below it.
"""

from caffe import coord_map, io, proto
from caffe.classifier import Classifier
from caffe.detector import Detector
from caffe.mode import get_mode, set_device, set_mode_cpu, set_mode_gpu, set_random_seed
from caffe.net_spec import NetSpec, layers, params, to_proto
from caffe.proto.caffe_pb2 import TEST, TRAIN
from caffe.pycaffe import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    Blob,
    Layer,
    NesterovSolver,
    Net,
    RMSPropSolver,
    SGDSolver,
    get_solver,
    layer_type_list,
)

__version__ = "1.0.0"  # of the Caffe whose behaviour this is

__all__ = [
    "AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "Blob", "Classifier", "Detector", "Layer", "NesterovSolver",
    "Net", "NetSpec", "RMSPropSolver", "SGDSolver", "TEST", "TRAIN", "coord_map", "get_mode", "get_solver", "io",
    "layer_type_list", "layers", "params", "proto", "set_device", "set_mode_cpu", "set_mode_gpu", "set_random_seed",
    "to_proto",
]
