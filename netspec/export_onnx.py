"""Write a net and its weights as an ONNX model: `python -m netspec.export_onnx fcn8s fcn8s.caffemodel fcn8s.onnx`.

    python -m netspec.export_onnx models/fcn8s/deploy.prototxt fcn8s.caffemodel fcn8s.onnx --shape data=1,3,500,500

The model computes what the net does in TEST, see `netspec.onnx_graph`. Where onnxruntime is installed the file is run beside the
net on random inputs before it is kept. The package onnx is needed here alone: `pip install onnx`.
"""

import argparse
import os
import sys

from netspec import files, onnx_check, recipes, text, weights
from netspec.errors import Error, run_door
from netspec.onnx_graph import LARGEST, OPSET, the_package, to_onnx
from netspec.options import add_allow_unknown, dropped_by, named_shapes, say_dropped

EXAMPLES = """examples:
  python -m netspec.export_onnx models/fcn8s/deploy.prototxt fcn8s.caffemodel fcn8s.onnx --shape data=1,3,500,500
  python -m netspec.export_onnx fcn_squeezenet squeezenet.caffemodel squeezenet.onnx --free"""


def main(argv=None):
    """Write an ONNX file."""
    parser = argparse.ArgumentParser(
        prog="python -m netspec.export_onnx", description="Write a net and its weights as an ONNX model.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", metavar="NET", help="prototxt, its folder, or the name of a model")
    parser.add_argument("weights", metavar="WEIGHTS", help="caffemodel or HDF5")
    parser.add_argument("out", metavar="OUT", help="the ONNX file to write")
    parser.add_argument("--shape", action="append", default=[], metavar="NAME=SHAPE",
                        help="shape of an input, such as data=1,3,375,500; may be repeated")
    parser.add_argument("--output", action="append", default=[], metavar="BLOB",
                        help="a blob to give out (default: those that no layer reads); may be repeated")
    parser.add_argument("--free", action="store_true", help="leave the inputs' height and width open")
    parser.add_argument("--no-check", action="store_true", help="do not run the file beside the net in onnxruntime")
    add_allow_unknown(parser)
    options = parser.parse_args(argv)
    onnx = the_package()
    dropped = dropped_by(options)
    net = text.read_net(recipes.find_net(options.net, ("deploy", "val", "test")), dropped)
    say_dropped(dropped)
    path = files.find(options.weights, what="weights")
    with weights.read_weights(path) as source:
        arrays = {name: [blob.data for blob in blobs if blob is not None] for name, blobs in source.layers.items()}
    shapes = named_shapes(options.shape, "--shape")
    model = to_onnx(net, arrays, shapes, options.output, options.free)
    size = model.ByteSize()
    if size >= LARGEST:
        raise Error(f"the model has {size / 2**30:.1f} GiB, an ONNX file holds 2; give fewer layers or narrower ones")
    os.makedirs(os.path.dirname(os.path.abspath(options.out)), exist_ok=True)
    with files.atomic(options.out) as file:
        file.write(model.SerializeToString())
        file.flush()
        said = "not checked (--no-check)" if options.no_check else onnx_check.check(net, path, file.name, shapes)
    given = ", ".join(f"{value.name} {_shape_of(value)}" for value in (*model.graph.input, *model.graph.output))
    print(f"{options.out}: {len(model.graph.node)} operators, opset {OPSET}, onnx {onnx.__version__}; {given}\n{said}",
          file=sys.stderr)
    return 0


def _shape_of(value):
    return "x".join(dim.dim_param or str(dim.dim_value) for dim in value.type.tensor_type.shape.dim)


if __name__ == "__main__":
    sys.exit(run_door(main))
