"""Training with parameters, gradients and history on a card: the CPU's numbers, snapshots, and what is said of errors."""

import importlib
import inspect

import numpy as np
import pytest

from layers.core.cuda import card as cards
from layers.core.cuda.driver import CardError
from layers.core.cuda.small import Numbers
from layers.core.net import Net
from solvers import health, sgd, snapshot, solver
from tests.layers.core.cuda.simulated import needs_card, read
from tests.solvers import small, test_goldens
from tests.solvers.test_goldens import copied, here  # noqa: F401

pytestmark = needs_card
CLOSE = 3e-7  # of the largest value: products and sums that go together are rounded once on a card, twice on the CPU


@pytest.fixture
def on_card(monkeypatch):
    """Let all updates run on the card and all layers on the host, which is quicker than to simulate them."""
    monkeypatch.setenv("DEEPJET_DEVICE", "gpu")
    make = Net._make_layers

    def make_layers(self):
        card, self.card = self.card, None
        make(self)
        self.card = card

    monkeypatch.setattr(Net, "_make_layers", make_layers)
    updated = []

    def update_on(self, blob):
        updated.append(blob)
        return self.net.card

    monkeypatch.setattr(solver.Solver, "update_on", update_on)
    return updated


def machine(folder, monkeypatch, text="", device="gpu"):
    """Return a solver of the small net with more solver fields."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DEEPJET_DEVICE", device)
    path = small.write(folder, solver=small.SOLVER + text)
    return solver.make(str(path))


def kept(made):
    """Return all blobs that an update changes."""
    return [*made.net.learnable_params, *made.history.blobs]


@pytest.mark.parametrize("text", ["", "regularization_type: 'L1'", "clip_gradients: 0.5 iter_size: 3"])
def test_steps_equal_the_cpus(tmp_path, monkeypatch, on_card, text):
    there, cpu = machine(tmp_path, monkeypatch, text), machine(tmp_path, monkeypatch, text, "cpu")
    for _ in range(3):
        there.step(1)
        updated = len(on_card)
        cpu.step(1)
        assert updated == 4 and there.net.card is not None and cpu.net.card is None  # two layers learn
        on_card.clear()
        for one, other in zip(kept(there), kept(cpu)):
            assert one.memory().taken == other.memory().taken and one.has_diff == other.has_diff
            if one.memory().taken:  # who looks at a history takes memory for it
                assert abs(one.data - other.data).max() <= CLOSE * abs(other.data).max(), one.name
    assert there.smoothed_loss == pytest.approx(cpu.smoothed_loss, rel=1e-6)


def test_a_whole_net_is_trained_as_on_the_cpu(tmp_path, monkeypatch):
    there, cpu = machine(tmp_path, monkeypatch), machine(tmp_path, monkeypatch, device="cpu")
    for made in (there, cpu):
        made.step(2)
    assert there.net.card is not None and there.smoothed_loss == pytest.approx(cpu.smoothed_loss, rel=1e-5)
    for one, other in zip(kept(there), kept(cpu)):
        assert abs(one.data - other.data).max() <= 1e-5 * abs(other.data).max(initial=1e-6), one.name


@pytest.mark.parametrize("type_name", solver.types())
def test_the_kernel_equals_the_plain_rule(type_name):
    card, random = cards.find("gpu"), np.random.RandomState(0)
    stem, histories = solver.types()[type_name], solver.find(type_name).histories
    module = importlib.import_module(f"solvers.{stem}")
    plain, kernel = getattr(module, f"{stem}_plain"), getattr(module, f"{stem}_cuda")
    numbers = len(inspect.signature(plain).parameters) - 2 - histories - 4  # all but data, diff, histories and the gradient's
    numbers = [np.float32(one) for one in (*random.uniform(0.05, 0.95, numbers), 0.25, 0.5, 5e-4, 1e-4)]
    arrays = [random.randn(333).astype("f4") for _ in range(2)] + [abs(random.randn(333)).astype("f4") for _ in range(histories)]
    arrays[0][:3] = 0, np.nan, -0.0
    parts = [card.arena.take(one.nbytes) for one in arrays]
    for part, values in zip(parts, arrays):
        card.upload(part.span, values)
    own, step = Numbers(card, len(numbers) - 1), Numbers(card, 2)
    own.write([*numbers[:-4], *numbers[-3:]])
    for halted in (1, 0):
        step.write([halted, numbers[-4]])
        card.run(kernel, 333, *(part.span for part in parts), step.span, own.span)
        if halted:
            assert np.array_equal(read(card, parts[0].span, 333), arrays[0], equal_nan=True)
    plain(*arrays, *numbers)
    for part, expected in zip(parts, arrays):
        found = np.empty_like(expected)
        card.download(found, part.span)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", ["sgd_l1", "sgd_clip_iter3", "sgd_heavy_fcn", "nesterov", "adagrad", "rmsprop", "adadelta",
                                  "adam"])
def test_training_equals_caffes(case, monkeypatch, on_card, here):  # noqa: F811
    test_goldens.test_training_equals_caffes(case, monkeypatch)
    assert on_card


def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(tmp_path, monkeypatch, on_card):
    whole = machine(tmp_path, monkeypatch)
    whole.step(2)
    _, state = whole.snapshot()
    whole.step(2)
    second = machine(tmp_path, monkeypatch)
    second.restore(state)
    second.step(2)
    for one, other in zip(kept(whole), kept(second)):
        assert one.data.tobytes() == other.data.tobytes()


def test_updates_run_where_the_gradients_are(tmp_path, monkeypatch):
    made = machine(tmp_path, monkeypatch)
    card, blob = made.net.card, made.net.learnable_params[2]
    assert made.update_on(blob) is None
    blob.change_on(card, diff=True)
    assert made.update_on(blob) is card
    blob.diff[...] = 0
    assert made.update_on(blob) is None


def test_values_that_are_not_finite_are_found_on_the_card(tmp_path, monkeypatch):
    made = machine(tmp_path, monkeypatch)
    net, card = made.net, made.net.card
    blob = net.params["score"][0]
    assert health.bad_parameter(net) is None
    blob.change_on(card)
    assert health.bad_parameter(net) is None and not blob.memory().on_host  # one number came over, not the parameter
    blob.data[0, 1] = np.inf
    blob.change_on(card)
    assert health.bad_parameter(net) == "parameter 0 of layer 'score'"


def test_a_bad_loss_stops_the_run_and_keeps_the_state_before(tmp_path, monkeypatch, on_card):
    made = machine(tmp_path, monkeypatch)
    made.step(1)
    before = [blob.data.copy() for blob in kept(made)]
    run = Net._run

    def spoiled(self, numbers, last, watched):
        self.blobs["data"].data[...] = np.nan
        return run(self, numbers[1:], last, watched)

    monkeypatch.setattr(Net, "_run", spoiled)
    with pytest.raises(Exception, match=r"the loss is nan in iteration 1; .*kept in .*snap_iter_1\.solverstate"):
        made.step(1)
    again = machine(tmp_path, monkeypatch)
    again.restore(snapshot.names(made)[1])
    assert all((blob.data == values).all() for blob, values in zip(kept(again), before))


def test_an_error_of_the_card_keeps_the_state_before(tmp_path, monkeypatch, on_card):
    made = machine(tmp_path, monkeypatch)
    made.step(1)
    before = [blob.data.copy() for blob in made.net.learnable_params]

    def refuse(*arguments, **keywords):
        raise CardError("out of it")

    monkeypatch.setattr(Net, "backward_from_to", refuse)
    with pytest.raises(CardError, match=r"out of it; iteration 1 is not done; the state before .* kept in .*snap_iter_1\.solver"):
        made.step(1)
    again = machine(tmp_path, monkeypatch)
    again.restore(snapshot.names(made)[1])
    assert all((blob.data == values).all() for blob, values in zip(again.net.learnable_params, before))
    monkeypatch.undo()
    monkeypatch.setattr(sgd.SGDSolver, "update", refuse)
    with pytest.raises(CardError, match="out of it; the update of iteration 1 is half done; the last snapshot is of iteration 1"):
        made.step(1)


def test_a_card_that_is_lost_names_the_last_snapshot(tmp_path, monkeypatch, on_card):
    made = machine(tmp_path, monkeypatch)
    made.step(1)
    made.snapshot()
    made.step(1)

    def refuse(*arguments, **keywords):
        raise CardError("the card is gone")

    monkeypatch.setattr(type(made.net.card), "download", refuse)
    monkeypatch.setattr(type(made.net.card), "launch", refuse)
    with pytest.raises(CardError, match="card is gone.*could not be written .*; the last snapshot is of iteration 1: .*_iter_1"):
        made.step(1)
