import pickle
import zipfile

import numpy as np
import pytest

from netspec import torch_file
from netspec.errors import Error
from tests.netspec import torch_files

STATE = {"a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "a.bias": np.array([1.5, -2], np.float32)}
FORMS = ("safetensors", "zip", "legacy")


def write(path, form, state=STATE, kind="FloatStorage", dtype="F32"):
    if form == "safetensors":
        return torch_files.save_safetensors(path, state, dtype)
    return torch_files.save(path, *torch_files.tensors(state, kind), legacy=form == "legacy")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_arrays(tmp_path, form):
    state = torch_file.read_state(write(tmp_path / "x", form))
    assert list(state) == list(STATE) and state.shapes == {name: one.shape for name, one in STATE.items()} and len(state) == 2
    for name, one in STATE.items():
        assert np.array_equal(state[name], one) and state[name].dtype == np.float32


@pytest.mark.parametrize("form", FORMS)
def test_halves_are_read_as_float32(tmp_path, form):
    half = {"x": np.array([[0.5, -2.25]], np.float16)}
    assert np.array_equal(torch_file.read_state(write(tmp_path / "h", form, half, "HalfStorage", "F16"))["x"], half["x"])
    brain = {"x": (np.array([[0.5, -2.25]], np.float32).view(np.uint32) >> 16).astype(np.uint16)}
    found = torch_file.read_state(write(tmp_path / "b", form, brain, "BFloat16Storage", "BF16"))["x"]
    assert found.dtype == np.float32 and np.array_equal(found, [[0.5, -2.25]])


@pytest.mark.parametrize("legacy", [False, True])
def test_views_of_a_storage_are_what_they_were(tmp_path, legacy):
    values = np.arange(12, dtype=np.float32)
    storage = torch_files._Storage("0", "FloatStorage", values)
    found = {"turned": torch_files._Tensor(storage, 0, (4, 3), (1, 4)), "part": torch_files._Tensor(storage, 5, (2, 2), (4, 1))}
    state = torch_file.read_state(torch_files.save(tmp_path / "x", found, [storage], legacy))
    assert np.array_equal(state["turned"], values.reshape(3, 4).T)
    assert np.array_equal(state["part"], values.reshape(3, 4)[1:, 1:3])


def test_the_state_is_found_inside_what_training_scripts_save(tmp_path):
    found, storages = torch_files.tensors(STATE)
    state = torch_file.read_state(torch_files.save(tmp_path / "x", {"state_dict": found, "epoch": 3}, storages))
    assert list(state) == list(STATE)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_that_a_pickle_holds_is_run(tmp_path, legacy):
    found, storages = torch_files.tensors(STATE)
    path = torch_files.save(tmp_path / "x", {**found, "evil": Evil(tmp_path / "trace")}, storages, legacy)
    with pytest.raises(Error, match=r"asks to call \w+\.open, which no state of weights needs"):
        torch_file.read_state(path)
    assert not (tmp_path / "trace").exists()


def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path):
    storage = torch_files._Storage("0", "FloatStorage", np.zeros(4, np.float32))
    for number, (offset, shape, steps) in enumerate([(0, (5,), (1,)), (2, (2, 2), (2, 1)), (0, (2,), (-1,)), (-1, (1,), (1,))]):
        path = torch_files.save(tmp_path / f"{number}", {"x": torch_files._Tensor(storage, offset, shape, steps)}, [storage])
        with pytest.raises(Error, match="reaches beyond its storage of 4 values"):
            torch_file.read_state(path)


@pytest.mark.parametrize("form", FORMS)
def test_a_truncated_file_is_one_error(tmp_path, form):
    whole = write(tmp_path / "x", form).read_bytes()
    for keep in (1, 4, 9, 40, len(whole) // 2, len(whole) - 3):
        (tmp_path / "cut").write_bytes(whole[:keep])
        with pytest.raises(Error, match="cut"):
            state = torch_file.read_state(tmp_path / "cut")
            [state[name] for name in state]


def test_what_is_something_else_is_said(tmp_path):
    def refused(content):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(Error) as caught:
            torch_file.read_state(tmp_path / "x")
        return str(caught.value)

    assert "is empty" in refused(b"")
    assert "neither .safetensors nor .pth" in refused(b"hello world, this is text")
    assert "not one of torch.save" in refused(pickle.dumps([1, 2], 2))
    with pytest.raises(Error, match="not found"):
        torch_file.read_state(tmp_path / "none.pth")
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("hello.txt", "x")
    with pytest.raises(Error, match="without data.pkl"):
        torch_file.read_state(tmp_path / "z")
    torch_files.save(tmp_path / "n", {"epoch": 3}, [])
    with pytest.raises(Error, match="holds no tensors by name"):
        torch_file.read_state(tmp_path / "n")


def test_a_damaged_header_of_safetensors_is_said(tmp_path):
    for header in ('{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 9]}}', '{"x": 3}', '{"x"',
                   '{"x": {"dtype": "F8", "shape": [1], "data_offsets": [0, 1]}}'):
        words = header.encode()
        (tmp_path / "x").write_bytes(len(words).to_bytes(8, "little") + words + bytes(16))
        with pytest.raises(Error, match="damaged|of type F8"):
            torch_file.read_state(tmp_path / "x")
