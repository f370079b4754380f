"""Training on a card without waiting: recorded iterations have the bits of plain ones, and what goes wrong is found in time."""

import h5py
import numpy as np
import pytest

from layers.core.cuda.driver import CardError
from layers.prelu import PReLU
from netspec.errors import Error
from solvers import on_card, solver
from tests.layers.core.cuda.simulated import needs_card

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
max_iter: 20 average_loss: 3 random_seed: 5 snapshot_prefix: "out/snap"
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
        file.write(SOLVER + text + (" display: 4" if "display" not in text else ""))
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
    """Return what a log says of iterations, without times."""
    lines = [line.split("] ")[1] for line in text.splitlines() if "solver.cpp" in line]
    return [line.split(" (")[0] + line.partition("), ")[2] for line in lines]


@pytest.mark.parametrize("text, passes", [("", 3), ("iter_size: 2 clip_gradients: 1e-3 regularization_type: 'L1'", 5)])
def test_recorded_iterations_have_the_bits_of_plain_ones(here, ran, capfd, text, passes):
    found, logs = [], []
    for made in (plain := machine(text, plain=True), queued := machine(text)):
        ran.clear()
        capfd.readouterr()
        made.step(6)
        found.append(len(ran))
        logs.append(said(capfd.readouterr().err))
    # Passes that Python told the card: alone, then with what follows plainly and to be written down.
    assert found[0] == (12 if "iter_size" in text else 6) and found[1] <= passes
    assert state(plain) == state(queued) and logs[0] == logs[1] and queued.net._repeated.recording is not None
    assert any("lr = 0.25" in line for line in logs[1]) and any("Gradient clip" in line for line in logs[1]) == ("clip" in text)


@pytest.mark.parametrize("text", ["type: 'Adam'", "type: 'Nesterov' clip_gradients: 0.5"])
def test_all_types_read_their_numbers_anew_in_each_iteration(here, text):
    without_dropout()
    plain, queued = machine(text, plain=True), machine(text)
    for made in (plain, queued):
        made.step(5)
    assert state(plain) == state(queued) and queued.net._repeated.recording is not None


class Pictures:
    """A Python layer without a state: every second picture is larger, and `odd` of them holds a NaN."""

    def setup(self, bottom, top):
        self.number, self.odd = 0, int(self.param_str or -1)

    def reshape(self, bottom, top):
        width = 2 + (self.number % 2 if self.odd < 0 else 0)
        top[0].reshape(1, 3, 1, width)
        top[1].reshape(1, 1, 1, width)

    def forward(self, bottom, top):
        top[0].data[...] = np.nan if self.number == self.odd else np.arange(3).reshape(1, 3, 1, 1) + self.number
        top[1].data[...] = 1
        self.number += 1


def without_dropout(odd=None):
    """Write the net without dropout, with `Pictures` as its data if `odd` is given."""
    lines = [line for line in NET.splitlines() if "Dropout" not in line]
    if odd is not None:
        lines[2] = ('layer { name: "in" type: "Python" top: "data" top: "label" python_param { layer: "Pictures" '
                    f'module: "tests.solvers.test_queued" param_str: "{odd}" }} }}')
    with open("net.prototxt", "w") as file:
        file.write("\n".join(lines))


def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(here):
    whole = machine("snapshot: 4")
    whole.step(6)
    again = machine()
    again.restore("out/snap_iter_4.solverstate")
    again.step(2)
    assert state(whole) == state(again)


def test_pictures_of_changing_size_are_trained_with_plainly(here, ran):
    without_dropout(odd=-1)
    plain, queued = machine(plain=True), machine()
    for made in (plain, queued):
        made.step(4)
    assert state(plain) == state(queued) and queued.net._repeated.recording is None and len(ran) == 8


def test_a_layer_that_goes_on_in_what_it_counts_is_not_recorded(here, ran, monkeypatch):
    without_dropout()
    counted = []
    monkeypatch.setattr(PReLU, "prepare_cuda", lambda self, *blobs: None)
    monkeypatch.setattr(PReLU, "state", lambda self: {"number": len(ran) + len(counted)})
    monkeypatch.setattr(PReLU, "set_state", lambda self, state: counted.append(state))
    made = machine()
    made.step(4)
    assert made.net._repeated.recording is None and len(counted) == 2 and len(ran) == 4 + 2


def test_whoever_is_called_between_passes_and_update_finds_gradients(here):
    without_dropout()
    made, seen = machine(), []
    made.add_callback(on_gradients_ready=lambda: seen.append(made.net.params["two"][0].diff.copy()))
    made.step(2)
    assert len(seen) == 2 and all(one.any() for one in seen) and not made.on_card.can()


def spoil(place, value, image=3):
    """Write a value into an image or label of the data file; let images come in order."""
    with h5py.File("data.h5", "r+") as file:
        file[place][image, 0, 0, 0] = value
    with open("net.prototxt") as file:
        text = file.read()
    with open("net.prototxt", "w") as file:
        file.write(text.replace(" shuffle: true", ""))


@pytest.mark.parametrize("place, value, message", [
    ("data", np.nan, r"the loss is nan in iteration 3; the first value that is not finite is in blob 'data'; .*kept in .*_3\.s"),
    ("label", 7, r"layer 'loss' .*label 7 at n 0, row 0, column 0 of 'label' is out of range")])
def test_what_goes_wrong_unseen_leaves_the_state_before_it(here, place, value, message):
    without_dropout()
    spoil(place, value)
    found = []
    for plain in (True, False):
        made = machine("display: 0", plain)
        with pytest.raises(Error, match=message):
            made.step(5)
        assert made.iter == 3
        found.append(state(made)[:2])
    assert found[0] == found[1]


def test_what_goes_wrong_only_once_stops_the_run(here):
    without_dropout(odd=3)
    made = machine()
    with pytest.raises(Error, match="iteration 3 went wrong .* but not when it was run again: .*there is no snapshot before"):
        made.step(8)
    assert made.iter == 3


def test_an_error_of_the_card_names_the_snapshot(here, monkeypatch):
    without_dropout()
    made = machine("snapshot: 2 display: 0")
    made.step(2)

    def refuse(*arguments, **keywords):
        raise CardError("the card is gone")

    made.step(1)
    monkeypatch.setattr(type(made.net.card), "replay", refuse)
    monkeypatch.setattr(type(made.net.card), "launch", refuse)
    monkeypatch.setattr(type(made.net.card), "download", refuse)
    with pytest.raises(CardError, match="the card is gone; iteration 3 is not done; .*last snapshot is of iteration 2: .*_2"):
        made.step(1)


def test_many_iterations_are_looked_at_in_parts(here, monkeypatch):
    without_dropout()
    monkeypatch.setattr(on_card, "ROWS", 4)
    plain, queued = machine("display: 0", plain=True), machine("display: 0")
    for made in (plain, queued):
        made.step(6)
    assert state(plain) == state(queued) and not queued.on_card.queued


def test_nets_that_gather_statistics_are_looked_at_after_each_pass(here):
    without_dropout()
    with open("net.prototxt") as file:
        text = file.read()
    with open("net.prototxt", "w") as file:
        file.write(text.replace('type: "PReLU"', 'type: "BatchNorm"').replace("param { lr_mult: 0 }", ""))
    made = machine()
    made.step(3)
    assert not made.on_card.can() and made.net._repeated.recording is not None
