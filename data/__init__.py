"""Food: data sets, databases, transforms, metrics and colours. Needs NumPy, SciPy, Pillow and h5py; knows no layer."""

from netspec.errors import let_imports_be_interrupted

let_imports_be_interrupted()
