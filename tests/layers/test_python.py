import logging
import sys
import textwrap

import numpy as np
import pytest

from layers.core import catalogue
from layers.core.blob import Blob
from netspec import caffe_pb2
from netspec.errors import Error, PathError

TIMES = """
    import helper_of_times

    class Times:
        def setup(self, bottom, top):
            self.factor = float(self.param_str)
            self.count = 0
            assert self.param_str_ == self.param_str
        def reshape(self, bottom, top):
            top[0].reshape(*bottom[0].shape)
        def forward(self, bottom, top):
            self.count += 1
            top[0].data[...] = helper_of_times.DOUBLE * self.factor * bottom[0].data
        def backward(self, top, propagate_down, bottom):
            if propagate_down[0]:
                bottom[0].diff[...] = helper_of_times.DOUBLE * self.factor * top[0].diff
        def get_state(self):
            return {"count": self.count}
        def set_state(self, state):
            self.count = state["count"]
        def close(self):
            self.count = None
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with modules; what a test imports from it is forgotten afterwards."""
    known = set(sys.modules)
    (tmp_path / "times_two.py").write_text(textwrap.dedent(TIMES))
    (tmp_path / "helper_of_times.py").write_text("DOUBLE = 2\n")
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def make(folder, module="times_two", layer="Times", param_str="1.5", shapes=((2, 3),), phase=caffe_pb2.TRAIN):
    param = caffe_pb2.LayerParameter(name="it", type="Python")
    param.python_param.module, param.python_param.layer, param.python_param.param_str = module, layer, param_str
    made = catalogue.find("Python")(param, phase)
    made.prototxt = str(folder / "net.prototxt")
    bottom, top = [Blob(shape) for shape in shapes], [Blob()]
    made.setup(bottom, top)
    made.reshape(bottom, top)
    return made, bottom, top


def module(folder, name, text):
    (folder / f"{name}.py").write_text(textwrap.dedent(text))


PLAIN = "def setup(self, bottom, top): pass\n    def reshape(self, bottom, top): pass\n    "


def test_the_users_class_is_run(folder, caplog):
    with caplog.at_level(logging.INFO, "deepjet"):
        layer, bottom, top = make(folder)
    assert str(folder / "times_two.py") in caplog.text
    bottom[0].data[...] = np.arange(6).reshape(2, 3)
    layer.forward(bottom, top)
    np.testing.assert_array_equal(top[0].data, 3 * bottom[0].data)
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    assert (bottom[0].diff == 3).all()
    assert layer.instance.phase == caffe_pb2.TRAIN
    assert layer.instance.name == "it"
    assert layer.instance.prototxt_path == str(folder / "net.prototxt")


def test_state_and_close_are_the_users(folder):
    layer, bottom, top = make(folder)
    layer.forward(bottom, top)
    assert layer.state() == {"count": 1}
    other, _, _ = make(folder)
    other.set_state(layer.state())
    assert other.instance.count == 1
    other.close()
    assert other.instance.count is None


def test_shapes_are_known_after_reshape_only(folder):
    layer, bottom, top = make(folder)
    assert layer.top_shapes([(2, 3)]) == [(2, 3)]
    with pytest.raises(Error, match="tops are unknown before its code has run: only times_two.Times.reshape"):
        layer.top_shapes([(4, 3)])


def test_a_class_may_take_caffes_argument(folder):
    module(folder, "with_argument", f"""
class A:
    def __init__(self, p, extra=1):
        self.given = p.name
    {PLAIN}
class B:
    def __init__(self, p=None):
        self.given = p and p.name
    {PLAIN}
class C:
    {PLAIN}
""")
    assert make(folder, "with_argument", "A")[0].instance.given == "it"
    assert make(folder, "with_argument", "B")[0].instance.given == "it"
    make(folder, "with_argument", "C")


def test_parameters_are_made_with_add_blob(folder):
    module(folder, "with_parameter", """
class P:
    def setup(self, bottom, top):
        self.blobs.add_blob(2, 3)
        self.blobs[0].data[...] = 4
        self.blobs.add_blob(1)
    def reshape(self, bottom, top): pass
""")
    layer, _, _ = make(folder, "with_parameter", "P")
    assert [blob.shape for blob in layer.blobs] == [(2, 3), (1,)]
    assert layer.param_propagate_down == [True, True]
    assert (layer.blobs[0].data == 4).all()


def test_two_files_of_one_name_are_kept_apart(folder):
    for name, value in (("one", 1), ("two", 2)):
        (folder / name).mkdir()
        module(folder / name, "same_name", f"class S:\n    value = {value}\n    {PLAIN}")
    assert [make(folder / name, "same_name", "S")[0].instance.value for name in ("one", "two", "one")] == [1, 2, 1]


def test_a_module_named_like_a_package_of_ours_is_found_beside_the_prototxt(folder):
    module(folder, "layers", f"class Mine:\n    {PLAIN}")
    make(folder, "layers", "Mine")
    (folder / "netspec").mkdir()
    module(folder / "netspec", "mine", f"class Mine:\n    {PLAIN}")
    make(folder, "netspec.mine", "Mine")


def test_modules_are_found_in_the_working_directory_and_on_the_path(folder, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(folder)
    make(elsewhere)
    module(elsewhere, "on_the_path", f"class S:\n    {PLAIN}")
    with pytest.raises(Error, match="module 'on_the_path' not found; tried: "):
        make(folder, "on_the_path", "S")
    monkeypatch.syspath_prepend(elsewhere)
    make(folder, "on_the_path", "S")


def test_the_published_names_lead_to_our_data_sets(folder):
    with pytest.raises(Error, match=r"layer 'it' \(Python\).*'voc_dir'"):
        make(folder, "voc_layers", "VOCSegDataLayer", "{'split': 'val'}", shapes=())
    with pytest.raises(Error, match=r"has no class 'VOCSegDataLayr'; did you mean 'VOCSegDataLayer'\?"):
        make(folder, "voc_layers", "VOCSegDataLayr")


@pytest.mark.parametrize("name", ["no_such_module", "no_such_layers", "no_such.module", "times_two.no"])
def test_a_module_that_is_nowhere_says_where_it_was_looked_for(folder, name):
    with pytest.raises(Error, match=rf"layer 'it' \(Python\): module '{name}' not found; tried: {folder}"):
        make(folder, name)


def test_mistakes_in_the_users_code_name_file_line_and_keep_their_cause(folder):
    module(folder, "broken", """
class Setup:
    def setup(self, bottom, top):
        {}["split"]
class Reshape:
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top):
        raise RuntimeError("two bottoms wanted")
class Missing:
    def setup(self, bottom, top): pass
class Path:
    def setup(self, bottom, top):
        from netspec.errors import PathError
        raise PathError("file 'x' not found")
""")
    expected = rf"layer 'it' \(Python\): Setup.setup failed at {folder}/broken.py:4: KeyError"
    with pytest.raises(Error, match=expected) as seen:
        make(folder, "broken", "Setup")
    assert isinstance(seen.value.__cause__, KeyError)
    with pytest.raises(RuntimeError, match="Reshape.reshape failed at .*broken.py:8: RuntimeError: two bottoms wanted"):
        make(folder, "broken", "Reshape")
    with pytest.raises(Error, match="class Missing .* has no method 'reshape'"):
        make(folder, "broken", "Missing")
    with pytest.raises(PathError, match=r"layer 'it' \(Python\): file 'x' not found"):
        make(folder, "broken", "Path")


@pytest.mark.parametrize("text, message", [
    ("print 'Python 2'", r"import of 'broken_import' failed at .*broken_import.py:1: SyntaxError"),
    ("import no_such_thing", r"import of 'broken_import' failed at .*broken_import.py:1: ModuleNotFoundError"),
    ("\n1 / 0", r"import of 'broken_import' failed at .*broken_import.py:2: ZeroDivisionError"),
])
def test_a_module_that_cannot_be_imported_says_why(folder, text, message):
    module(folder, "broken_import", text)
    with pytest.raises(Error, match=message):
        make(folder, "broken_import")


@pytest.mark.parametrize("field", ["module", "layer"])
def test_missing_parameters_are_refused(folder, field):
    with pytest.raises(Error, match=f"python_param has no '{field}'"):
        make(folder, **{field: ""})
