"""Snapshots: `PREFIX_iter_N.caffemodel` and `.solverstate` (or `.h5` of both), as Caffe writes and reads them.

Caffe's solver state holds the iteration, the step of the rate and the history. deepjet adds what an exact resume needs
beside them, a JSON text in the field `deepjet` (1000) or the HDF5 dataset "deepjet", over which Caffe steps: the nets'
random states and data order, the states of Python's and NumPy's global generators, the losses that the log averages.
"""

import json
import os
import random
import shutil
import tempfile

import numpy as np

from netspec import blobs, caffe_pb2, files, weights
from netspec.errors import Error
from solvers import health, log

WEIGHTS_ENDINGS = (".caffemodel", ".caffemodel.h5")


# --- names -----------------------------------------------------------------------------------------------------------


def prefix(solver):
    """Return what the names of the solver's snapshots begin with.

    `snapshot_prefix` is relative to the working directory, as in Caffe, if its folder is there. Otherwise (Caffe stops)
    the folder is made: where its parent is, from the working directory or the project's root, or else beside the solver
    file, so that models which all say ``snapshot/train`` do not overwrite each other.
    """
    given = solver.param.snapshot_prefix
    if not given:
        given = os.path.splitext(solver.path)[0] if solver.path else "snapshot"
    folder = os.path.dirname(given)
    if not folder or os.path.isabs(folder) or os.path.isdir(folder):
        return given
    parent = os.path.dirname(folder)
    for base in ("", files.ROOT):
        if parent and os.path.isdir(os.path.join(base, parent)):
            return os.path.join(base, given)
    return os.path.join(os.path.dirname(solver.path), given) if solver.path else given


def names(solver, iteration=None):
    """Return the paths (weights, state) of the snapshot of an iteration, by default the present one."""
    ending = ".h5" if solver.param.snapshot_format == caffe_pb2.SolverParameter.HDF5 else ""
    stem = f"{prefix(solver)}_iter_{solver.iter if iteration is None else iteration}"
    return f"{stem}.caffemodel{ending}", f"{stem}.solverstate{ending}"


def probe(solver):
    """Make the snapshot folder and see that a snapshot can be written there, before hours are spent on one."""
    if not solver.param.snapshot and not solver.param.snapshot_after_train:
        return
    where = prefix(solver)
    folder = os.path.dirname(os.path.abspath(where))
    cure = "choose another snapshot_prefix"
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Error(f"cannot write snapshots to '{where}...': {error.strerror}; {cure}") from None
    wanted = sum(b.count * b.dtype.itemsize for b in solver.net.learnable_params) * (1 + solver.histories)
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise Error(f"cannot write snapshots to '{where}...': one takes {wanted / 2**20:.0f} MiB and the disk has "
                    f"{free / 2**20:.0f} MiB left; {cure}")


# --- writing ---------------------------------------------------------------------------------------------------------


def write(solver, extra=None):
    """Write the weights and the state of the solver as it is now; return the two paths.

    `extra` is a `record` from before, if it is not now that a resume should go on from. Weights that are not finite
    are an `Error` and are not written, so the last good snapshot stays the last.
    """
    bad = health.bad_parameter(solver.net)
    if bad:
        raise Error(f"iteration {solver.iter}: {bad} holds values that are not finite (NaN or infinity), so no "
                    f"snapshot is written; {last(solver)}")
    model, state = names(solver)
    hdf5 = solver.param.snapshot_format == caffe_pb2.SolverParameter.HDF5
    log.info("solver.cpp:464", f"Snapshotting to {'HDF5 file' if hdf5 else 'binary proto file'} {model}")
    solver.net.save(model, bool(solver.param.snapshot_diff))
    log.info("sgd_solver.cpp:273",
             f"Snapshotting solver state to {'HDF5 file' if hdf5 else 'binary proto file'} {state}")
    history = [np.zeros(shape, np.float32) if array is None else array
               for array, shape in zip(solver.history, solver.history_shapes)]
    text = json.dumps(extra or record(solver), separators=(",", ":"))
    weights.write_solverstate(state, solver.iter, model, solver.current_step, history, text.encode())
    solver.last_snapshot = (solver.iter, model, state)
    return model, state


def last(solver):
    """Return a half sentence on the last snapshot, for messages."""
    if solver.last_snapshot is None:
        return "there is no snapshot before it"
    iteration, _, state = solver.last_snapshot
    return f"the last snapshot is of iteration {iteration}: {state}"


def record(solver):
    """Return what an exact resume needs beside Caffe's fields, JSON-able."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    version, internal, next_gauss = random.getstate()
    return {
        "version": 1,
        "net": solver.net.state(),
        "test_nets": [net.state() for net in solver.test_nets],
        "random": [version, list(internal), next_gauss],
        "numpy": [kind, keys.tolist(), int(position), int(has_gauss), float(gauss)],
        **losses(solver),
    }


def losses(solver):
    """Return the part of a `record` that tells of losses."""
    return {"losses": list(solver.losses), "smoothed_loss": solver.smoothed_loss, "first": solver.first,
            "pixel_loss": solver.pixel_loss.state()}


# --- reading ---------------------------------------------------------------------------------------------------------


def restore(solver, path):
    """Let the solver go on where the state file `path` (Caffe's or ours, either format) was written."""
    path = os.fspath(path)
    if path.endswith(WEIGHTS_ENDINGS):
        _refuse_weights(path)
    path = files.find(path, what="snapshot")
    with weights.read_solverstate(path) as state:
        count = len(solver.history_shapes)
        if len(state.blobs) != count:
            raise Error(f"'{path}' holds {len(state.blobs)} history blobs, solver '{solver.param.type}' of this net "
                        f"has {count}; it was written for another net or another type of solver")
        params = len(solver.net.learnable_params)
        for number, (blob, shape) in enumerate(zip(state.blobs, solver.history_shapes)):
            if not blobs.shapes_agree(blob.shape, shape):
                raise Error(f"'{path}': history blob {number} has shape {list(blob.shape)}, its parameter "
                            f"'{solver.net.learnable_params[number % params].name}' {list(shape)}; "
                            "it was written for another net")
        if state.learned_net:
            solver.net.copy_from(_learned_net(state.learned_net, path))
        for number, blob in enumerate(state.blobs):
            values = blob.read()
            # What is all zero is mostly a layer that does not learn; it takes no memory until something moves it.
            solver.history[number] = None
            if values.any():
                solver.history[number] = np.array(values, solver.net.dtype).reshape(solver.history_shapes[number])
        solver.iter, solver.current_step = state.iter, state.current_step
        if state.extra is not None:
            _set_record(solver, state.extra, path)
    model, _ = names(solver)
    solver.last_snapshot = (solver.iter, model, path)


def _refuse_weights(path):
    stem = path.removesuffix(".h5").removesuffix(".caffemodel")
    states = [name for name in (f"{stem}.solverstate", f"{stem}.solverstate.h5") if os.path.exists(name)]
    resume = f" --snapshot {states[0]} goes on where it was written;" if states else ""
    raise Error(f"'{path}' holds weights, not a solver state;{resume} --weights {path} begins with these weights at "
                "iteration 0, without momentum")


def _learned_net(name, state_path):
    """Return the weights file that a state file names.

    Both are always written together, so a file of that name beside the state file comes first; then the name as it is
    (relative to the working directory, as in Caffe). States of 2014 leave the extension out.
    """
    folder = os.path.dirname(os.path.abspath(state_path))
    ending = ".caffemodel.h5" if state_path.endswith(".h5") else ".caffemodel"
    places = []
    for place in (os.path.join(folder, os.path.basename(name)), name, os.path.join(folder, name)):
        places += [place, place + ending, os.path.splitext(place)[0]]
    for place in places:
        if os.path.isfile(place):
            return place
    tried = dict.fromkeys(os.path.abspath(place) for place in places)
    raise Error(f"'{state_path}' belongs to the weights '{name}', which are not there; tried: {', '.join(tried)}")


def go_back(solver, found):
    """Set random states and data order to what they were at a `record`."""
    version, internal, next_gauss = found["random"]
    kind, keys, position, has_gauss, gauss = found["numpy"]
    random.setstate((version, tuple(internal), next_gauss))
    np.random.set_state((kind, np.array(keys, np.uint32), position, has_gauss, gauss))
    solver.net.set_state(found["net"])
    for net, state in zip(solver.test_nets, found["test_nets"]):
        net.set_state(state)


def _set_record(solver, extra, path):
    try:
        found = json.loads(extra)
        go_back(solver, found)
        solver.losses, solver.smoothed_loss = list(found["losses"]), found["smoothed_loss"]
        solver.first = found["first"]
        solver.pixel_loss.set_state(found["pixel_loss"])
        solver.resumed = True
    except Error:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, UnicodeDecodeError) as error:
        raise Error(f"'{path}': deepjet's record of random states and data order is damaged ({error})") from None
