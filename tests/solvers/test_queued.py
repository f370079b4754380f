"""Training on a card without waiting: recorded iterations have the bits of plain ones, and what goes wrong is found in time."""

import h5py
import numpy as np
import pytest

from layers.core.cuda.driver import CardError
from layers.prelu import PReLU
from netspec.errors import Error
from solvers import on_card, solver
from tests.layers.core.cuda.simulated import needs_card
from tests.solvers import small

pytestmark = needs_card
NET = """
name: "narrow"
layer { name: "in" type: "HDF5Data" top: "data" top: "label" hdf5_data_param { source: "list.txt" batch_size: 1 shuffle: true } }
layer { name: "one" type: "Scale" bottom: "data" top: "one" scale_param { bias_term: true filler { value: 0.7 } } }
layer { name: "bend" type: "PReLU" bottom: "one" top: "one" param { lr_mult: 0 } }
layer { name: "drop" type: "Dropout" bottom: "one" top: "one" }
layer { name: "two" type: "Scale" bottom: "one" top: "two" param { lr_mult: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "two" bottom: "label" top: "loss" loss_param { ignore_label: 255 } }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.5 lr_policy: "step" stepsize: 3 gamma: 0.5 momentum: 0.9 weight_decay: 0.001
max_iter: 20 display: 4 average_loss: 3 random_seed: 5 snapshot_prefix: "out/snap"
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Write the data, and go there."""
    random = np.random.RandomState(3)
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["data"] = random.randn(5, 3, 1, 3).astype(np.float32)
        label = random.randint(0, 3, (5, 1, 1, 3)).astype(np.float32)
        label[:, :, 0, 1] = 255
        file["label"] = label
    (tmp_path / "list.txt").write_text("data.h5\n")
    (tmp_path / "net.prototxt").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPJET_DEVICE", "gpu")
    return tmp_path


@pytest.fixture
def ran(monkeypatch):
    """Return a list of the passes that Python told a card layer by layer."""
    calls, forward = [], PReLU.forward_cuda
    monkeypatch.setattr(PReLU, "forward_cuda", lambda self, *blobs: (calls.append(self.name), forward(self, *blobs)))
    return calls


def machine(text="", plain=False):
    """Return a solver; `plain`: one that waits for each pass and records nothing."""
    with open("solver.prototxt", "w") as file:
        file.write(SOLVER + text)
    made = solver.make("solver.prototxt")
    if plain:
        made.on_card.can = lambda: False
        made.net._find_what_repeats = lambda *_: ((), ())
    return made


def state(made):
    """Return the bits of all that training changes."""
    arrays = [blob.data for blob in (*made.net.learnable_params, *made.history.blobs) if blob.memory().taken]
    return [array.tobytes() for array in arrays], made.losses, made.smoothed_loss, made.pixel_loss.rows(), made.net.state()


def said(text):
    """Return what a log says, without times."""
    lines = [line.split("] ")[1] for line in text.splitlines() if "] " in line]
    return [line.split(" (")[0] + line.partition("), ")[2] for line in lines]


@pytest.mark.parametrize("text, passes", [("", 3), ("iter_size: 2 clip_gradients: 1e-3 regularization_type: 'L1'", 4),
                                          ("clip_gradients: 0.5", 3)])
def test_recorded_iterations_have_the_bits_of_plain_ones(here, ran, capfd, text, passes):
    found, logs = [], []
    for made in (plain := machine(text, plain=True), queued := machine(text)):
        ran.clear()
        capfd.readouterr()
        made.step(6)
        found.append(len(ran))
        logs.append(said(capfd.readouterr().err))
    # Passes that Python told the card: alone, then with what follows plainly and to be written down.
    assert found == [12 if "iter_size" in text else 6, passes]
    assert state(plain) == state(queued) and sorted(logs[0]) == sorted(logs[1]) and queued.net._repeated.recording is not None
    assert any("lr = 0.25" in line for line in logs[1]) and any("Gradient clip" in line for line in logs[1]) == ("clip" in text)
