"""Python: a layer written by the user, as in pycaffe.

`python_param { module: "voc_layers" layer: "VOCSegDataLayer" param_str: "..." }` names a class with the methods setup,
reshape, forward (bottom, top) and backward (top, propagate_down, bottom); bottom and top are lists of blobs. It may,
but need not, derive from `caffe.Layer`. Before setup the instance is given `param_str` (also under its old name
`param_str_`), `phase`, `name`, `type`, `blobs` (a list with `add_blob(*shape)`) and `prototxt_path`.

The module is looked for beside the prototxt, in the working directory, along `sys.path`, and last, for names like
`voc_layers`, as `data.voc`. It is code that runs: the log says from which file it came.

For an exact resume the class may have get_state() and set_state(state), JSON-able; close() is called when the net is
closed. `share_in_parallel` has no meaning here. Source: Caffe's PythonLayer.
"""

import importlib
import importlib.util
import inspect
import logging
import os
import sys
import traceback

from layers.core.blob import Blob
from layers.core.layer import Layer
from netspec.errors import Error, nearest

log = logging.getLogger("deepjet")


class PythonLayerError(Error, RuntimeError):
    """An exception that came out of a user's Python layer; the original one is its cause."""


class Parameters(list):
    """A layer's parameter blobs, with pycaffe's way to add one."""

    def __init__(self, name, dtype):
        super().__init__()
        self.name, self.dtype = name, dtype

    def add_blob(self, *shape):
        """Append a parameter of this shape, zeros; return it."""
        shape = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        self.append(Blob(tuple(shape), f"{self.name}[{len(self)}]", self.dtype))
        return self[-1]


class Python(Layer):
    """A step of the net written by the user."""

    foreign = True
    works_in_place = True  # what the user's code does is its own affair
    prototxt = ""  # set by the net: the file beside which the module is looked for
    instance = None
    file = ""  # of the user's code
    _shapes = None

    def check(self):
        """Refuse a layer without module or class."""
        for field in ("module", "layer"):
            if not getattr(self.param.python_param, field):
                self.fail(f"python_param has no '{field}'; give the {'module' if field == 'module' else 'class'} name")

    def top_shapes(self, bottom_shapes):
        """Return the tops' shapes as of the last reshape; only the user's code knows them before."""
        if self._shapes is None or self._shapes[0] != [tuple(shape) for shape in bottom_shapes]:
            self.fail("the shapes of its tops are unknown before its code has run: only "
                      f"{self.param.python_param.module}.{self.param.python_param.layer}.reshape knows them")
        return list(self._shapes[1])

    def setup(self, bottom, top):
        """Find the class, make its instance and call its setup."""
        param = self.param.python_param
        self.blobs = Parameters(self.name, self.dtype)
        module = self._module(param.module)
        self.file = getattr(module, "__file__", None) or param.module
        found = getattr(module, param.layer, None)
        if not inspect.isclass(found):
            classes = [name for name, value in vars(module).items()
                       if inspect.isclass(value) and hasattr(value, "forward")]
            self.fail(f"module '{param.module}' ({self.file}) has no class '{param.layer}'"
                      f"{nearest(param.layer, classes)}; it has: {', '.join(classes) or 'none'}")
        log.info("Layer %s: class %s of %s", self.name, param.layer, self.file)
        self.instance = self._guard(f"{param.layer}()", self._make, found)
        self._call("setup", list(bottom), list(top))
        self.param_propagate_down = [True] * len(self.blobs)

    def _make(self, found):
        try:
            inspect.signature(found).bind(self.param)
            arguments = (self.param,)  # pycaffe hands over the LayerParameter, which caffe.Layer's __init__ takes
        except (TypeError, ValueError):
            arguments = ()
        instance = found(*arguments)
        text = self.param.python_param.param_str
        for name, value in (("param_str", text), ("param_str_", text), ("phase", self.phase), ("name", self.name),
                            ("type", self.type), ("blobs", self.blobs), ("prototxt_path", self.prototxt or None)):
            setattr(instance, name, value)
        return instance

    def reshape(self, bottom, top):
        """Let the user's code shape the tops."""
        self._call("reshape", list(bottom), list(top))
        self._shapes = [blob.shape for blob in bottom], [blob.shape for blob in top]

    def forward(self, bottom, top):
        """Call the user's forward."""
        self._call("forward", list(bottom), list(top))

    def backward(self, top, propagate_down, bottom):
        """Call the user's backward."""
        self._call("backward", list(top), list(propagate_down), list(bottom))

    @property
    def current(self):
        """What the user's class says it delivered last (an image's id), or None."""
        return getattr(self.instance, "current", None)

    def state(self):
        """Return what the user's class wants kept, or None."""
        return self._call("get_state") if hasattr(self.instance, "get_state") else None

    def set_state(self, state):
        """Give it back."""
        if state is not None and hasattr(self.instance, "set_state"):
            self._call("set_state", state)

    def close(self):
        """Let the user's class give back files and threads."""
        if hasattr(self.instance, "close"):
            self._call("close")

    # --- the user's code ----------------------------------------------------------------------------------------

    def _call(self, method, *args):
        function = getattr(self.instance, method, None)
        if function is None:
            self.fail(f"class {self.param.python_param.layer} ({self.file}) has no method '{method}'")
        return self._guard(f"{self.param.python_param.layer}.{method}", function, *args)

    def _guard(self, what, function, *args):
        """Call the user's code; what it raises becomes an `Error` that says where, with the original as its cause."""
        try:
            return function(*args)
        except Error as error:
            # Said by deepjet's own code (a data set, a blob): it is clear by itself, only the layer is missing.
            if f"layer '{self.name}'" in str(error):
                raise
            self._raise(str(error), error, type(error))
        except Exception as error:
            self._raise(f"{what} failed at {self._place(error)}: {type(error).__name__}: {error}", error,
                        PythonLayerError)

    def _place(self, error):
        """Return file:line of the user's code that raised: the innermost line of the module, if it is on the way."""
        if isinstance(error, SyntaxError) and error.filename:
            return f"{error.filename}:{error.lineno}"
        frames = traceback.extract_tb(error.__traceback__)[1:]  # without _guard's own
        frames = [frame for frame in frames if not frame.filename.startswith("<")]
        if not frames:
            return self.file
        frame = ([frame for frame in frames if frame.filename == self.file] or frames)[-1]
        return f"{frame.filename}:{frame.lineno}"

    def _raise(self, text, error, kind):
        try:
            self.fail(text)
        except Error as said:
            raise kind(str(said)) from error

    # --- finding the module -------------------------------------------------------------------------------------

    def _module(self, name):
        folders = [os.path.dirname(os.path.abspath(self.prototxt))] if self.prototxt else []
        folders.append(os.getcwd())
        for folder in dict.fromkeys(folders):
            base = os.path.join(folder, *name.split("."))
            for path in (base + ".py", os.path.join(base, "__init__.py")):
                if os.path.isfile(path):
                    self.file = path
                    return self._guard(f"import of '{name}'", self._load, name, path, folder)
        try:
            known = name in sys.modules or importlib.util.find_spec(name) is not None
        except (ImportError, ValueError):  # a parent package that is not there
            known = False
        if known:
            return self._guard(f"import of '{name}'", importlib.import_module, name)
        if name.endswith("_layers"):
            ours = f"data.{name.removesuffix('_layers')}"
            try:
                known = importlib.util.find_spec(ours) is not None
            except ImportError:
                known = False
            if known:
                return importlib.import_module(ours)
        places = [*dict.fromkeys([*folders, *filter(None, sys.path)])]
        return self.fail(f"module '{name}' not found; tried: {', '.join(places)}")

    @staticmethod
    def _load(name, path, folder):
        """Import the file as module `name`, with its folder on the path so that it finds its neighbours."""
        loaded = sys.modules.get(name)
        if loaded is not None and _file_of(loaded) == path:
            return loaded
        parent = sys.modules.get(name.split(".")[0])
        sys.path.insert(0, folder)
        try:
            if loaded is None and (parent is None or _file_of(parent).startswith(folder + os.sep)):
                importlib.invalidate_caches()
                return importlib.import_module(name)
            # Another file has this name already (another net's, or one of deepjet's own): give this one a name apart.
            apart = f"{name}@{path}"
            if apart in sys.modules:
                return sys.modules[apart]
            spec = importlib.util.spec_from_file_location(apart, path)
            module = importlib.util.module_from_spec(spec)
            sys.modules[apart] = module
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[apart]
                raise
            return module
        finally:
            sys.path.remove(folder)


def _file_of(module):
    return os.path.abspath(getattr(module, "__file__", None) or "")
