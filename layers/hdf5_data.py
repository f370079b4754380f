"""HDF5Data: batches from HDF5 files; each top is the data set of its name.

`source` is a text file that lists HDF5 files; rows (axis 0) are delivered in order, `batch_size` at a time, going on
in the next file and after the last one from the first. A batch may span files. With `shuffle` the files, and the rows
within each, come in random order, another one each time. Data sets have any number of axes (at least one), any numeric
type, and as many rows as the other tops' of the file. One file at a time is held in memory.

Paths are looked for as given, beside the prototxt (those in the list: beside the list), and from the project's root.
The order drawn depends on the net's seed only, and an exact resume goes on in the middle of it. Source: Caffe's
HDF5DataLayer.
"""

import os

import h5py
import numpy as np

from layers.core.layer import Layer
from layers.core.rng import Stream
from netspec import files
from netspec.errors import Error, nearest


class HDF5Data(Layer):
    """Read arrays from HDF5."""

    exact_bottoms = 0
    min_tops = 1
    prototxt = ""  # set by the net: the file beside which paths are looked for

    def check(self):
        """Refuse what is missing."""
        param = self.param.hdf5_data_param
        if not param.source:
            self.fail("hdf5_data_param has no 'source': a text file that lists HDF5 files")
        if param.batch_size < 1:
            self.fail("hdf5_data_param has no 'batch_size', or 0; give the number of rows in a batch")
        if self.param.HasField("transform_param"):
            self.fail("does not transform data; remove transform_param")

    def top_shapes(self, bottom_shapes):
        """Return (batch_size, lengths of a row) of each top, as in the first file (only its header is read)."""
        path = self._list()[0]
        with self._open(path) as file:
            return [(self.param.hdf5_data_param.batch_size, *self._find(file, path, name).shape[1:])
                    for name in self._names()]

    def setup(self, bottom, top):
        """Load the first file."""
        super().setup(bottom, top)
        self.paths = self._list()
        self.names = self._names()
        self.file, self.row = 0, 0
        self.loaded = None
        self._draw_files()
        self._draw_rows()
        self._load()

    def reshape(self, bottom, top):
        """Give each top its batch's shape."""
        for blob, rows in zip(top, self.rows):
            blob.reshape(self.param.hdf5_data_param.batch_size, *rows.shape[1:])

    def forward(self, bottom, top):
        """Copy the next rows."""
        done, batch = 0, self.param.hdf5_data_param.batch_size
        while done < batch:
            self._load()
            take = self.order[self.row:self.row + batch - done]
            for blob, rows in zip(top, self.rows):
                if rows.shape[1:] != blob.shape[1:]:
                    self.fail(f"data set '{blob.name}' of '{self._path()}' has rows of shape {list(rows.shape[1:])}, "
                              f"but an earlier file's have {list(blob.shape[1:])}")
                # Rows in order are a slice, which NumPy copies faster than an index list.
                start = int(take[0])
                in_order = not self.param.hdf5_data_param.shuffle
                blob.data[done:done + len(take)] = rows[start:start + len(take)] if in_order else rows[take]
            done += len(take)
            self._advance(len(take))

    def backward(self, top, propagate_down, bottom):
        """Do nothing."""

    def state(self):
        """Return where in the order the layer stands, and what the orders were drawn from."""
        return {"file": self.file, "row": self.row, "files_from": self.files_from, "rows_from": self.rows_from,
                "rng": self.rng.state()}

    def set_state(self, state):
        """Go on where `state` was taken."""
        if not 0 <= int(state["file"]) < len(self.paths):
            self.fail(f"the data order to restore stands in file number {state['file']}, but "
                      f"'{self.param.hdf5_data_param.source}' now lists {len(self.paths)} files")
        self.file, self.row = int(state["file"]), int(state["row"])
        self.files_from, self.rows_from = state["files_from"], state["rows_from"]
        self.file_order = self._order_from(self.files_from, len(self.paths))
        self.rng.set_state(state["rng"])
        self.loaded = None
        self._load()
        if self.row >= len(self.order):
            self.fail(f"the data order to restore stands at row {self.row} of '{self._path()}', which has only "
                      f"{len(self.order)} rows; the file has changed")

    # --- order ------------------------------------------------------------------------------------------------

    def _draw_files(self):
        self.files_from = self._draw()
        self.file_order = self._order_from(self.files_from, len(self.paths))

    def _draw_rows(self):
        self.rows_from = self._draw()  # the order itself is made when the file is loaded

    def _draw(self):
        """Return the random state that an order will be made from, and let the layer's stream step over it."""
        state = self.rng.state()
        if self.param.hdf5_data_param.shuffle:
            self.rng.generator()
        return state

    def _order_from(self, state, count):
        if not self.param.hdf5_data_param.shuffle:
            return np.arange(count)
        stream = Stream()
        stream.set_state(state)
        return stream.generator().permutation(count)

    def _advance(self, rows):
        self.row += rows
        if self.row < len(self.order):
            return
        self.row = 0
        self.file += 1
        if self.file == len(self.paths):
            self.file = 0
            if len(self.paths) > 1:
                self._draw_files()
        self._draw_rows()

    # --- files ------------------------------------------------------------------------------------------------

    def _names(self):
        return list(self.param.top) or ["data"]

    def _list(self):
        source = files.find(self.param.hdf5_data_param.source, self.prototxt, "HDF5 file list")
        names = files.read_text(source).split()
        if not names:
            self.fail(f"'{source}' lists no HDF5 file")
        return [files.find(name, source, "HDF5 file") for name in names]

    def _path(self):
        return self.paths[self.file_order[self.file]]

    def _open(self, path):
        try:
            return h5py.File(path, "r")
        except OSError as error:
            return self.fail(f"cannot read '{path}' as HDF5: {str(error).splitlines()[0]}")

    def _find(self, file, path, name):
        found = file.get(name)
        if not isinstance(found, h5py.Dataset):
            here = [key for key in file if isinstance(file[key], h5py.Dataset)]
            self.fail(f"'{path}' has no data set '{name}'{nearest(name, here)}; it has: {', '.join(here) or 'none'}")
        if found.dtype.kind not in "fiub":
            self.fail(f"data set '{name}' of '{path}' is of type {found.dtype}; numbers are wanted")
        if not found.shape or not found.shape[0]:
            self.fail(f"data set '{name}' of '{path}' has shape {list(found.shape)}; it needs rows along a first axis")
        return found

    def _load(self):
        """Have the current file in memory, and the order of its rows."""
        key = (self._path(), str(self.rows_from))
        if self.loaded == key:
            return
        path = key[0]
        if self.loaded is None or self.loaded[0] != path:
            self.rows = None  # so that two files are never in memory together
            try:
                with self._open(path) as file:
                    rows = [self._find(file, path, name) for name in self.names]
                    lengths = {name: r.shape[0] for name, r in zip(self.names, rows)}
                    if len(set(lengths.values())) > 1:
                        self.fail(f"the data sets of '{path}' differ in their number of rows: "
                                  + ", ".join(f"'{name}' {length}" for name, length in lengths.items()))
                    self.rows = [np.asarray(r[...], self.dtype) for r in rows]
            except OSError as error:
                if isinstance(error, Error):
                    raise
                self.fail(f"cannot read '{os.path.basename(path)}' ({path}): {str(error).splitlines()[0]}")
        self.order = self._order_from(self.rows_from, len(self.rows[0]))
        self.loaded = key
