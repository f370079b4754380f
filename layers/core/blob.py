"""Blob: an array and its gradient, as Caffe's layers see them.

Inside, a blob's values lie in one of two layouts: Caffe's NCHW, or blocks of 16 channels (`layers.core.cpu.blocked`), which
vector kernels like better. Whoever touches `data` or `diff` finds NCHW: the values are then moved there, and stay there until
a layer writes the whole blob anew. A blob that somebody looked at since it was written, or holds a view of, is written as
NCHW, so that old views show new values, as in Caffe.

In a net on a card (`layers.core.cuda`) they lie there, too, as NCHW: each `Memory` knows on which side they are valid, and
brings them over when they are asked for. A view that somebody holds shows what the card wrote when `data` is asked for again,
as in Caffe.
"""

import math
import operator
import sys

import numpy as np

from layers.core.cpu.blocked import Blocked, Place, fitting, picture_of
from layers.core.cpu.fingerprint import fingerprint
from layers.core.cpu.memory import address
from netspec.errors import Error

LARGEST = 2**31 - 1  # elements; Caffe counts with a C int and refuses more


class Memory:
    """Values that several blobs may look at: a flat array or blocked images; taken (zero-filled) when first touched.

    Attributes
    ----------
    array : ndarray or None
        The values in Caffe's order, unless they are in `blocked`.
    blocked : Blocked or None
        The values in blocks.
    seen : bool
        Whether somebody was given the array since the values were last written as a whole (`write`).
    cleared : bool
        Whether all values are zero, although nobody has written that to the array yet (`clear`).
    border : layers.core.border.Border or None
        What is known of the values outside of the part that depends on the image; None as soon as they may have changed.
    part : layers.core.cuda.arena.Part or None
        The values on a card.
    on_host, on_card : bool
        Where they are valid.
    """

    __slots__ = ("array", "blocked", "border", "capacity", "card", "cleared", "dtype", "lost", "on_card", "on_host", "part",
                 "seen", "spare", "_fingerprint")

    def __init__(self, capacity, dtype):
        self.capacity = capacity
        self.dtype = dtype
        self.array = self.blocked = self.border = self._fingerprint = None
        self.seen = self.cleared = self.lost = False
        self.spare = []
        self.card = self.part = None
        self.on_host, self.on_card = True, False

    @property
    def nbytes(self):
        """Bytes of the host's memory taken."""
        return (0 if self.array is None else self.array.nbytes) + (0 if self.blocked is None else self.blocked.nbytes)

    def give_up(self, spare):
        """Let the values go, unless somebody holds a view; blocks go to the list `spare`, from which others take them."""
        if self.held:
            return
        if self.blocked is not None and self.blocked.whole is None:
            spare.append(self.blocked)
        self.array = self.blocked = self.border = self._fingerprint = self.part = None
        self.seen, self.cleared, self.on_card, self.on_host, self.lost = False, False, False, True, True

    def expect(self, spare):
        """Be ready for new values after `give_up`, in blocks from the list `spare` if one fits."""
        self.lost, self.spare = False, spare

    @property
    def taken(self):
        """Whether memory was taken: if not, all values are zero."""
        return self.array is not None or self.blocked is not None or self.part is not None

    def take(self):
        """Return the array, for whoever wants it; values in blocks are moved there."""
        self.seen = True
        self.border = self._fingerprint = None
        array = self.peek()
        self.on_card = False
        return array

    def peek(self):
        """Return the array for reading only: it does not count as seen."""
        if self.lost:
            raise Error("the values were given up when the last layer had read them, to save memory (low_memory); name the blob "
                        "in `keep` (--keep) to have them")
        if self.array is None:
            try:
                # Zeros come from the system page by page, so untouched parts cost nothing.
                array = np.zeros(self.capacity, self.dtype)
            except MemoryError:
                size = self.capacity * np.dtype(self.dtype).itemsize / 2**30
                raise Error(f"out of memory: {size:.2f} GiB wanted for one blob of {self.capacity} values") from None
            if self.blocked is not None:
                self.blocked.get(array[: math.prod(self.blocked.shape)].reshape(self.blocked.shape))
            self.array = array  # before the blocks go: an interrupt loses nothing
            self.blocked = None
        elif self.cleared:
            self.array.fill(0)
        self.cleared = False
        if not self.on_host:
            self.card.download(self.array[: self._there()], self.part.span)
            self.on_host = True
        return self.array

    def clear(self):
        """Make all values zero. If nobody holds a view, that is only noted: until somebody asks for them, or `add`."""
        if not self.taken:
            return
        if self.clear_on_card():
            return
        if self.blocked is not None or self.held:
            self.take().fill(0)
            return
        self.border = self._fingerprint = None
        self.cleared = True

    def add(self, count, function):
        """Call ``function(array, accumulate)`` to add to the first `count` values, or without `accumulate` to write them all.

        They are written where they are known to be zero: this saves a pass over them, and where the sum is -0 leaves that (0 + -0
        would be 0). Until all are written they stay zero for whoever asks after an interrupt.
        """
        if not self.cleared or self.array is None or count != self.capacity:
            function(self.take()[:count], True)
            return
        self.border = self._fingerprint = None
        self.on_card = False
        function(self.array, False)
        self.seen, self.cleared = True, False

    def in_blocks(self, shape):
        """Whether the values lie in blocks, as images of `shape`."""
        return self.blocked is not None and self.blocked.shape == shape

    def to_blocks(self, shape):
        """Move the values to blocks, as images of `shape`, unless somebody holds a view; return whether they are there."""
        if not self.in_blocks(shape) and not self.held and not self.lost and self.dtype == np.float32:
            array = self.peek()[: math.prod(shape)].reshape(shape)
            self.blocked = Blocked(shape).put(array)
            self.array, self.seen = None, False
        return self.in_blocks(shape)

    def changed(self):
        """Forget what is known of the values: somebody changes them in place, in the layout that they have."""
        self.border = self._fingerprint = None
        self.on_card = False
        if self.blocked is not None:
            self.blocked.kept = None

    def place(self, shape):
        """Return the `Place` of the values as they lie, for reading; `shape` is (N, C, H, W)."""
        if self.in_blocks(shape):
            return self.blocked.place
        return Place(address(self.peek()), picture_of(shape))

    def write(self, shape, blocks):
        """Return the `Place` to write all values to; in blocks if `blocks` and nobody can tell the difference."""
        self.border = self._fingerprint = None
        self.lost = self.cleared = self.on_card = False
        self.on_host = True
        if blocks and self.may_be_blocked:
            self.array = None
            if self.blocked is None or self.blocked.whole is not None:
                self.blocked = fitting(shape, self.spare)
            else:
                self.blocked.reshape(shape)
            return self.blocked.place
        self.blocked = None  # before `peek`, which would move the old values
        array = self.peek()
        self.seen = False
        return Place(address(array), picture_of(shape))

    def write_within(self, shape, memory, whole, channel):
        """As `write`, in blocks, to a place within another's memory: from `channel` on of its images of shape `whole`.

        Returns None where that cannot be: write elsewhere.
        """
        if not self.may_be_blocked or shape[0] != whole[0] or shape[2:] != whole[2:] or channel + shape[1] > whole[1]:
            return None
        if memory.in_blocks(whole):
            memory.changed()
        elif not memory.may_be_blocked or not memory.write(whole, True).picture.blocked:
            return None
        self.border = self._fingerprint = self.array = None
        self.lost = self.cleared = False
        if not memory.blocked.has_part(self.blocked, channel, shape[1]):
            self.blocked = memory.blocked.part(channel, shape[1])
        return self.blocked.place

    def leave(self):
        """Move values that lie within another's memory to memory of their own."""
        if self.blocked is not None and self.blocked.whole is not None:
            self.peek()

    @property
    def may_be_blocked(self):
        """Whether values may be written in blocks and nobody can tell."""
        return self.dtype == np.float32 and not self.seen and not self.held

    # --- on a card --------------------------------------------------------------------------------------------------

    def span(self, card, count, read=True, write=False):
        """Return the `Span` of the first `count` values on `card`, maybe of more.

        They are brought there to be `read`, and valid nowhere else after a `write`.
        """
        if self.dtype != np.float32:
            raise Error(f"values of {np.dtype(self.dtype)} on a card: cards compute in float32")
        if self.part is None or self.card is not card or self._there() < count:
            if self.part is not None:
                self.peek()
            self.part, self.on_card = None, False  # before another is taken
            self.part, self.card = card.arena.take(count * 4), card
        # Whoever holds a view may have written since; the card is told each time (before a recording, if one is made).
        if read and self.on_host and (not self.on_card or card.recording is None and self.held):
            if self.cleared or (self.array is None and self.blocked is None and not self.lost):
                card.clear(self.part.span)
            else:
                card.upload(self.part.span, self.peek()[: self._there()])
        self.on_card = True
        if write:
            self._changed_on_card()
        return self.part.span

    def clear_on_card(self):
        """Set all values to zero where they are: on the card if they are valid there. Return whether that was done."""
        if self.part is None or not self.on_card:
            return False
        self.card.clear(self.part.span)
        self._changed_on_card()
        return True

    def _there(self):
        """Return how many values there is room for on the card."""
        return min(self.capacity, self.part.span.nbytes // 4)

    def _changed_on_card(self):
        self.on_host = self.seen = self.cleared = self.lost = False
        self.blocked = self.border = self._fingerprint = None

    def set_border(self, border):
        """Write down that the values outside of `border.box` are the border's; only blocks can be trusted with that."""
        if self.blocked is not None and self.blocked.whole is None:
            self.border, self.blocked.kept = border, border.key

    def kept_border(self, shape):
        """Return the key of the border that values in blocks had when they were last written, None if there is none."""
        return self.blocked.kept if self.in_blocks(shape) else None

    def fingerprint(self, count):
        """Return what tells the first `count` values from all others (`layers.core.cpu.fingerprint`).

        They are only read again when they may have changed since.
        """
        if self.held:  # whoever holds a view may write at any time, and let it go before we ask again
            self._fingerprint = None
            return fingerprint(self.peek()[:count])
        known = self._fingerprint
        if known is None or known[0] != count:
            known = self._fingerprint = count, fingerprint(self.peek()[:count])
        return known[1]

    @property
    def held(self):
        """Whether a view of the array is alive somewhere; a bare address (`ctypes.data`) holds nothing."""
        return self.array is not None and sys.getrefcount(self.array) > _OURS


def _count_ours():
    memory = Memory(1, np.float32)
    memory.take()
    return sys.getrefcount(memory.array)


_OURS = _count_ours()  # references to an array that only its Memory knows


class Blob:
    """N-dimensional array `data` with its gradient `diff`, both C-contiguous float32.

    Memory is taken when `data` or `diff` is first touched and kept while a new shape fits into it (Caffe's rule: a
    blob never shrinks, and values survive a reshape to a smaller shape; what a net has written in blocks survives as far as the
    shape reached that it was written in). An empty shape holds one value.

    Parameters
    ----------
    shape : tuple of int
        Axis lengths, each >= 0.
    name : str
        For messages only.
    dtype : numpy dtype
        float32 as in Caffe; float64 makes a net of the reference precision (`Net(dtype=...)`).
    """

    __slots__ = ("name", "dtype", "blocks", "diff_blocks", "within", "_shape", "_count", "_data", "_diff")

    def __init__(self, shape=(), name="", dtype=np.float32):
        self.name = name
        self.blocks = self.diff_blocks = False  # whether the plan wants `data` and `diff` in blocks of 16 channels
        self.within = None  # (blob, channel) if the plan wants `data` there, where channels of several blobs are joined
        self.dtype = np.dtype(dtype)
        self._shape = None
        self._data = self._diff = Memory(-1, self.dtype)
        self.reshape(tuple(shape))

    def reshape(self, *dims):
        """Give the blob another shape; `dims` are numbers or one tuple. Raises `Error` on negative or huge sizes."""
        shape = dims[0] if len(dims) == 1 and not isinstance(dims[0], (int, np.integer)) else dims
        if shape == self._shape:
            return
        try:
            shape = tuple(map(operator.index, shape))
        except TypeError:
            shape = self._whole(shape)
        if shape == self._shape:
            return
        if min(shape, default=0) < 0:
            raise Error(f"blob '{self.name}': shape {list(shape)} has a negative length")
        count = math.prod(shape)
        if count > LARGEST:
            raise Error(f"blob '{self.name}': shape {list(shape)} holds {count} values, more than the {LARGEST} "
                        "that one of Caffe's blobs can hold")
        self._shape, self._count = shape, count
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
        return self._data.take()[: self._count].reshape(self._shape)

    @data.setter
    def data(self, values):
        self.data[...] = values

    @property
    def diff(self):
        """The gradient of the loss with respect to the values; shape as `data`."""
        return self._diff.take()[: self._count].reshape(self._shape)

    @diff.setter
    def diff(self, values):
        self.diff[...] = values

    @property
    def has_diff(self):
        """Whether the gradient's memory was ever touched: an untouched one is zero and takes no memory."""
        return self._diff.taken

    def clear_diff(self):
        """Set `diff` to zero; memory that was never touched stays untaken, other is only written to when it is looked at."""
        self._diff.clear()

    def add_to_diff(self, function):
        """Call ``function(diff, accumulate)``, which adds to `diff`, or writes it without `accumulate`; see `Memory.add`."""
        self._diff.add(self._count, lambda array, accumulate: function(array.reshape(self._shape), accumulate))

    def memory(self, diff=False):
        """Return the `Memory` behind `data`, or behind `diff`: for layers that know about layouts."""
        return self._diff if diff else self._data

    def peek(self, diff=False):
        """Return `data` (or `diff`) for a layer that only reads it and keeps no view: it does not count as looked at."""
        return self.memory(diff).peek()[: self._count].reshape(self._shape)

    def in_blocks(self, diff=False):
        """Return the values as a `Blocked`: where they lie, or a copy if they lie in NCHW."""
        memory = self.memory(diff)
        return memory.blocked if memory.in_blocks(self._shape) else Blocked(self._shape).put(self.peek(diff))

    def nchw(self, diff=False):
        """Return `data` (or `diff`) for a layer that only reads it: a copy if the values lie in blocks, where they stay."""
        memory = self.memory(diff)
        return memory.blocked.get() if memory.in_blocks(self._shape) else self.peek(diff)

    @property
    def fingerprint(self):
        """What tells `data` from all other values, whoever wrote it and however."""
        return self._data.fingerprint(self._count)

    def place(self, diff=False):
        """Return the `Place` of a blob of 4 axes as it lies, for reading."""
        return self.memory(diff).place(self._shape)

    def write(self, diff=False):
        """Return the `Place` of a blob of 4 axes for a kernel that writes every value, in blocks if planned and possible."""
        if self.within is not None and not diff:
            blob, channel = self.within
            place = self._data.write_within(self._shape, blob.memory(), blob.shape, channel)
            if place is not None:
                return place
        return self.memory(diff).write(self._shape, self.diff_blocks if diff else self.blocks)

    def is_on(self, card, diff=False):
        """Whether the values of `data` (or `diff`) are valid on a card."""
        memory = self.memory(diff)
        return memory.on_card and memory.card is card

    def on(self, card, diff=False):
        """Return the `Span` of `data` (or `diff`) on a card, for a kernel that only reads it."""
        return self._span(card, diff, True, False)

    def write_on(self, card, diff=False):
        """The same for a kernel that writes every value."""
        return self._span(card, diff, False, True)

    def change_on(self, card, diff=False):
        """The same for a kernel that reads and writes, or writes some values only."""
        return self._span(card, diff, True, True)

    def _span(self, card, diff, read, write):
        span = self.memory(diff).span(card, self._count, read, write)
        if card.accesses is not None:
            card.accesses.append((self, diff, read, write, self._shape, span))
        return span

    def share_data(self, other):
        """Look at the same values as `other` (equal count) until one of the two outgrows the memory."""
        self._check_count(other)
        self._data = other._data

    def share_diff(self, other):
        """Look at the same gradient as `other` (equal count)."""
        self._check_count(other)
        self._diff = other._diff

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
