"""Whether an ONNX file computes what the net does: both run on the same drawn inputs."""

import importlib

import numpy as np

from netspec.errors import Error

TOLERANCE = 1e-4  # of a blob's largest value; float32 sums in another order differ by 1e-6 to 1e-5
SPREAD, SEED = 60, 1  # of the inputs: about that of pixels less their mean


def check(net, weights_path, model_path, shapes=None):
    """Return one line that says how far onnxruntime's results are from the net's, or why they were not compared.

    Parameters
    ----------
    net : NetParameter
    weights_path, model_path : path
    shapes : dict
        Input name -> shape, where it is not the one that the net says.

    Raises `Error` when a blob differs by more than `TOLERANCE` of its largest value.
    """
    try:
        import onnxruntime
    except ImportError:
        return "not checked: onnxruntime is not installed (pip install onnxruntime)"
    # Looked up at run time: netspec stands below the engine and does not import it.
    ours = importlib.import_module("layers.core.net").Net(net, weights=weights_path)
    for name, shape in (shapes or {}).items():
        ours.blobs[name].reshape(*shape)
    ours.reshape()
    rng = np.random.default_rng(SEED)
    inputs = {}
    for name in ours.inputs:
        inputs[name] = (SPREAD * rng.standard_normal(ours.blobs[name].shape)).astype(np.float32)
        ours.blobs[name].data[...] = inputs[name]
    ours.forward()
    session = onnxruntime.InferenceSession(str(model_path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    given = {value.name for value in session.get_inputs()}
    worst, where = 0.0, names[0]
    for name, theirs in zip(names, session.run(names, {name: one for name, one in inputs.items() if name in given})):
        mine = ours.blobs[name].data
        if theirs.shape != mine.shape:
            raise Error(f"'{name}' is {list(mine.shape)} in the net, {list(theirs.shape)} in onnxruntime; the file is not kept")
        finite = np.isfinite(mine)
        largest = float(np.abs(mine[finite]).max(initial=0)) or 1.0
        off = float(np.abs(theirs - mine)[finite].max(initial=0)) / largest
        if not np.array_equal(np.isfinite(theirs), finite):
            off = np.inf
        if off >= worst:
            worst, where = off, name
    if not worst <= TOLERANCE:
        raise Error(f"onnxruntime's '{where}' is off by {worst:.1e} of its largest value (up to {TOLERANCE:g} is rounding); the "
                    "file is not kept: please report the net")
    return f"checked beside onnxruntime {onnxruntime.__version__}: off by at most {worst:.1e} of the largest value ('{where}')"
