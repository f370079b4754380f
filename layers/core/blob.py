"""Blob: an array and its gradient, as Caffe's layers see them."""

import math

import numpy as np

from netspec.errors import Error

LARGEST = 2**31 - 1  # elements; Caffe counts with a C int and refuses more


class Memory:
    """A flat array that several blobs may look at; taken (zero-filled) when first touched."""

    __slots__ = ("array", "capacity", "dtype")

    def __init__(self, capacity, dtype):
        self.capacity = capacity
        self.dtype = dtype
        self.array = None

    def take(self):
        """Return the array; zeros come from the system page by page, so untouched parts cost nothing."""
        if self.array is None:
            try:
                self.array = np.zeros(self.capacity, self.dtype)
            except MemoryError:
                size = self.capacity * np.dtype(self.dtype).itemsize / 2**30
                raise Error(f"out of memory: {size:.2f} GiB wanted for one blob of {self.capacity} values") from None
        return self.array


class Blob:
    """N-dimensional array `data` with its gradient `diff`, both C-contiguous float32.

    Memory is taken when `data` or `diff` is first touched and kept while a new shape fits into it (Caffe's rule: a
    blob never shrinks, and values survive a reshape to a smaller shape). An empty shape holds one value.

    Parameters
    ----------
    shape : tuple of int
        Axis lengths, each >= 0.
    name : str
        For messages only.
    dtype : numpy dtype
        float32 as in Caffe; float64 makes a net of the reference precision (`Net(dtype=...)`).
    """

    __slots__ = ("name", "dtype", "_shape", "_count", "_data", "_diff", "_data_view", "_diff_view")

    def __init__(self, shape=(), name="", dtype=np.float32):
        self.name = name
        self.dtype = np.dtype(dtype)
        self._shape = None
        self._data = self._diff = Memory(-1, self.dtype)
        self.reshape(tuple(shape))

    def reshape(self, *dims):
        """Give the blob another shape; `dims` are numbers or one tuple. Raises `Error` on negative or huge sizes."""
        shape = dims[0] if len(dims) == 1 and not isinstance(dims[0], (int, np.integer)) else dims
        if shape == self._shape:
            return
        shape = self._whole(shape)
        if shape == self._shape:
            return
        if any(d < 0 for d in shape):
            raise Error(f"blob '{self.name}': shape {list(shape)} has a negative length")
        count = math.prod(shape)
        if count > LARGEST:
            raise Error(f"blob '{self.name}': shape {list(shape)} holds {count} values, more than the {LARGEST} "
                        "that one of Caffe's blobs can hold")
        self._shape, self._count = shape, count
        self._data_view = self._diff_view = None
        if count > self._data.capacity:
            self._data = Memory(count, self.dtype)
        if count > self._diff.capacity:
            self._diff = Memory(count, self.dtype)

    def _whole(self, lengths):
        # Scripts of Python 2 divide sizes: 7.0 will do, 7.5 cannot.
        try:
            shape = tuple(int(length) for length in lengths)
            if all(length == given for length, given in zip(shape, lengths)):
                return shape
        except (TypeError, ValueError, OverflowError):
            pass
        raise Error(f"blob '{self.name}': {lengths} is no shape; give whole numbers or one tuple of them")

    @property
    def shape(self):
        """Axis lengths, a tuple."""
        return self._shape

    @property
    def count(self):
        """Number of values."""
        return self._count

    @property
    def num_axes(self):
        """Number of axes."""
        return len(self._shape)

    @property
    def data(self):
        """The values: an array view, writable in place; assigning copies into it."""
        if self._data_view is None:
            self._data_view = self._data.take()[: self._count].reshape(self._shape)
        return self._data_view

    @data.setter
    def data(self, values):
        self.data[...] = values

    @property
    def diff(self):
        """The gradient of the loss with respect to the values; shape as `data`."""
        if self._diff_view is None:
            self._diff_view = self._diff.take()[: self._count].reshape(self._shape)
        return self._diff_view

    @diff.setter
    def diff(self, values):
        self.diff[...] = values

    @property
    def has_diff(self):
        """Whether the gradient's memory was ever touched: an untouched one is zero and takes no memory."""
        return self._diff.array is not None

    def share_data(self, other):
        """Look at the same values as `other` (equal count) until one of the two outgrows the memory."""
        self._check_count(other)
        self._data, self._data_view = other._data, None

    def share_diff(self, other):
        """Look at the same gradient as `other` (equal count)."""
        self._check_count(other)
        self._diff, self._diff_view = other._diff, None

    def shares_data(self, other):
        """Whether both look at the same values (an in-place layer)."""
        return self._data is other._data

    def _check_count(self, other):
        if self._count != other._count:
            raise Error(f"blob '{self.name}' {list(self._shape)} cannot share memory with '{other.name}' "
                        f"{list(other._shape)}: {self._count} and {other._count} values")

    def _legacy(self, axis):
        if len(self._shape) > 4:
            raise Error(f"blob '{self.name}': num, channels, height and width need at most 4 axes, "
                        f"it has {len(self._shape)}: use shape")
        return self._shape[axis] if axis < len(self._shape) else 1

    num = property(lambda self: self._legacy(0), doc="Length of axis 0 (1 when there is none).")
    channels = property(lambda self: self._legacy(1), doc="Length of axis 1 (1 when there is none).")
    height = property(lambda self: self._legacy(2), doc="Length of axis 2 (1 when there is none).")
    width = property(lambda self: self._legacy(3), doc="Length of axis 3 (1 when there is none).")

    def __repr__(self):
        return f"<Blob {self.name!r} {list(self._shape)}>"
