"""HDF5Output: writes its two bottoms into an HDF5 file, as the data sets "data" and "label".

    layer { name: "out" type: "HDF5Output" bottom: "fc7" bottom: "label" hdf5_output_param { file_name: "features.h5" } }

The first forward writes a new file (whole or not at all), each later one appends its rows (axis 0), so that the file is
what HDF5Data reads. Both bottoms have as many rows, and the lengths of a row stay. (Caffe makes the data sets anew in each
forward, which only the first one can.) `file_name` is relative to the working directory. float32, or float64 in a net of
float64. Source: Caffe's HDF5OutputLayer.
"""

import h5py

from layers.core.layer import Layer
from netspec import hdf5

NAMES = ("data", "label")
CHUNK = 1 << 18  # bytes about of a chunk


class HDF5Output(Layer):
    """Write bottoms to a file."""

    exact_bottoms = 2
    exact_tops = 0
    is_begun = False

    def check(self):
        """Refuse a missing name."""
        if not self.param.hdf5_output_param.file_name:
            self.fail("hdf5_output_param has no 'file_name': the HDF5 file to write")

    def top_shapes(self, bottom_shapes):
        """Return nothing; refuse bottoms that differ in their rows."""
        for number, shape in enumerate(bottom_shapes):
            if not shape:
                self.fail(f"{self.called(number)} has no axis; rows along a first axis are written")
        if bottom_shapes[0][0] != bottom_shapes[1][0]:
            self.fail(f"{self.called(0)} has {bottom_shapes[0][0]} rows, {self.called(1)} {bottom_shapes[1][0]}; they must be "
                      "equal")
        return []

    def forward(self, bottom, top):
        """Write, or append."""
        path = self.param.hdf5_output_param.file_name
        if not self.is_begun:
            with hdf5.write_file(path) as file:
                for name, blob in zip(NAMES, bottom):
                    row = max(1, blob.count // max(1, blob.shape[0])) * blob.dtype.itemsize
                    chunks = max(1, CHUNK // row), *(max(1, length) for length in blob.shape[1:])
                    file.create_dataset(name, data=blob.data, maxshape=(None, *blob.shape[1:]), chunks=chunks)
            self.is_begun = True
            return
        try:
            with h5py.File(path, "r+") as file:
                for name, blob in zip(NAMES, bottom):
                    rows = file[name]
                    if rows.shape[1:] != blob.shape[1:]:
                        self.fail(f"'{path}' has rows of shape {list(rows.shape[1:])} in '{name}', '{blob.name}' now has "
                                  f"{list(blob.shape[1:])}")
                for name, blob in zip(NAMES, bottom):
                    rows = file[name]
                    rows.resize(rows.shape[0] + blob.shape[0], axis=0)
                    rows[rows.shape[0] - blob.shape[0]:] = blob.data
        except (OSError, KeyError) as error:
            self.fail(f"cannot append to '{path}': {str(error).splitlines()[0]}")

    def backward(self, top, propagate_down, bottom):
        """Do nothing: a file has no gradient."""
