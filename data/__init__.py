"""Food: data sets, transforms, metrics and colours. Needs NumPy, SciPy, Pillow and h5py; knows no layer."""
