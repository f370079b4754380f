"""Layer: what all layer types have in common."""

import numpy as np

from layers.core import filler
from layers.core.blob import Blob
from layers.core.rng import Stream
from netspec import caffe_pb2, geometry
from netspec.errors import Error


class Layer:
    """One step of a net: bottoms in, tops out, with its parameters.

    A layer type is a subclass named as in Caffe, in the file of its name. It says its shapes without allocating
    (`top_shapes`, `param_shapes`), computes `forward`, and in `backward` overwrites the bottoms' diffs and *adds* to
    its parameters' diffs (that is how gradients are accumulated over images).

    Parameters
    ----------
    param : LayerParameter
        What the prototxt says of the layer.
    phase : int
        `caffe_pb2.TRAIN` or `caffe_pb2.TEST`.
    rng : Stream
        The layer's own source of random numbers.
    dtype : numpy dtype
        Of the parameters; float32, or float64 for a reference net.
    """

    exact_bottoms = min_bottoms = max_bottoms = None
    exact_tops = min_tops = max_tops = None
    equal_bottom_top = False
    foreign = False  # somebody else's code, or shapes that depend on values: called as often as Caffe would
    is_loss = False  # top 0 is a loss with weight 1 unless the prototxt says otherwise
    auto_top_blobs = False  # tops that the prototxt leaves out are made
    low_memory = False  # whether to keep nothing between calls that can be made again; set by the net
    math = "fast"  # or "strict" or "caffe", see `layers.core.cpu.choose`; set by the net
    rectifies = False  # y = max(x, 0): the layer before may do it while it writes x, see `forward_fused`
    pools = False  # y is the maximum of 2 x 2 pixels of x: likewise
    shares = False  # tops are the bottom's memory: nothing is read or written
    changes = True  # the values, where it works in place
    keeps_layout = False  # the top gets the layout that the bottom has: what is done to each value leaves zeros zero
    card = None  # `layers.core.cuda.card.Card` where the layer computes; None is the CPU. Set by the net
    repeats = True  # on a card both passes queue the same work for the same shapes, whatever the values and however often
    gathers = False  # in TRAIN forward changes parameters, such as running means
    works_in_place = False  # a top may be the bottom of its number (Caffe lets every layer, and some go wrong)

    def __init__(self, param, phase=caffe_pb2.TEST, rng=None, dtype=np.float32):
        self.param = param
        self.name, self.type, self.phase = param.name, param.type, phase
        self.rng = rng or Stream()
        self.dtype = np.dtype(dtype)
        self.blobs = []
        self.param_propagate_down = []
        self.loss_weights = []
        self.where = ""  # "file:line" for messages, set by the net
        self.check()

    # --- what a layer type says of itself without running -------------------------------------------------------

    def check(self):
        """Refuse parameters that can be seen to be wrong from the prototxt alone (with `self.fail`)."""

    def top_shapes(self, bottom_shapes):
        """Return the tops' shapes for these bottoms' shapes; allocates nothing."""
        raise NotImplementedError(f"{type(self).__name__}.top_shapes")

    def param_shapes(self, bottom_shapes):
        """Return the parameters' shapes; allocates nothing."""
        return []

    def param_fillers(self):
        """Return a FillerParameter (or None for zeros) for each of `param_shapes`."""
        return []

    def macs(self, bottom_shapes, top_shapes):
        """Return the multiply-accumulates of one forward pass."""
        return 0

    def allow_force_backward(self, bottom):
        """Whether `force_backward` may ask for the gradient of bottom number `bottom` (not of a label)."""
        return True

    # --- what the net calls -------------------------------------------------------------------------------------

    def check_counts(self, bottoms, tops):
        """Refuse a wrong number of bottoms or tops."""
        for what, count, exact, least, most in (
            ("bottom", bottoms, self.exact_bottoms, self.min_bottoms, self.max_bottoms),
            ("top", tops, self.exact_tops, self.min_tops, self.max_tops),
        ):
            if exact is not None and count != exact:
                self.fail(f"takes {exact} {what} blob{'s' if exact != 1 else ''}, {count} given")
            if least is not None and count < least:
                self.fail(f"takes at least {least} {what} blob{'s' if least != 1 else ''}, {count} given")
            if most is not None and count > most:
                self.fail(f"takes at most {most} {what} blob{'s' if most != 1 else ''}, {count} given")
        if self.equal_bottom_top and bottoms != tops:
            self.fail(f"takes as many tops as bottoms, {bottoms} bottoms and {tops} tops given")

    def check_in_place(self, bottom, top):
        """Refuse a top that is one of the bottoms, unless the type works in place."""
        shared = [blob for blob in top if any(blob is other for other in bottom)]
        if shared and not self.works_in_place:
            self.fail(f"cannot work in place: top '{shared[0].name}' is its bottom; give the top a name of its own")

    def setup(self, bottom, top):
        """Make the parameters (filled as the prototxt says); called once, before the first `reshape`."""
        shapes = self.param_shapes([b.shape for b in bottom])
        if not self.blobs and shapes:
            for number, (shape, how) in enumerate(zip(shapes, self.param_fillers(), strict=True)):
                blob = Blob(shape, f"{self.name}[{number}]", self.dtype)
                # A new blob is zero already: filling it again would only take its memory.
                if how is not None and (how.type != "constant" or how.value):
                    filler.fill(blob, how, self.rng.generator(), self.fail)
                self.blobs.append(blob)
        self.param_propagate_down = [True] * len(self.blobs)

    def reshape(self, bottom, top):
        """Give the tops their shapes; called before every forward, since every image has its own size."""
        for blob, shape in zip(top, self.top_shapes([b.shape for b in bottom])):
            blob.reshape(shape)

    def forward(self, bottom, top):
        """Compute the tops' data."""
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def has_cuda(self):
        """Whether the layer can compute on a card, as its parameters are; by default if the type has `forward_cuda`."""
        return type(self).forward_cuda is not Layer.forward_cuda

    def forward_cuda(self, bottom, top):
        """Compute the tops' data on `self.card`."""
        raise NotImplementedError(f"{type(self).__name__}.forward_cuda")

    def prepare_cuda(self, bottom, top):
        """Before each forward on `self.card`: bring there the numbers that its kernels read and that change from call to call.

        What forward and backward queue may have been recorded and be done again; this is called each time.
        """

    def flag_cuda(self):
        """Return the span of the int32 that forward's kernels raise when they find something wrong: what `check_cuda` sees."""
        return

    def check_cuda(self, bottom, top):
        """Fail if the kernels of forward found something wrong, such as a bad label; called when all layers were queued.

        This waits for the card, so only layers that can find something look.
        """

    def variant(self):
        """Return what work on a card depends on beside shapes and settings: values of its parameters, say (hashable)."""
        return

    def backward_cuda(self, top, propagate_down, bottom):
        """As `backward`, on `self.card`."""
        raise NotImplementedError(f"{type(self).__name__}.backward_cuda")

    def can_fuse(self, pool):
        """Whether `forward_fused` can rectify, and pool as the layer `pool` does unless that is None."""
        return False

    def forward_fused(self, bottom, top, rectify=False, pooled=None, box=None):
        """Compute the tops and what the layers behind make of them in one go; only what `can_fuse`.

        Parameters
        ----------
        rectify : bool
            Write max(top, 0), NaN staying NaN.
        pooled : Blob or None
            Gets the maxima of 2 x 2 pixels of the top.
        box : (int, int, int, int) or None
            Compute only the pixels [y0, y1) x [x0, x1): all others have their values.
        """
        raise NotImplementedError(f"{type(self).__name__}.forward_fused")

    def was_done(self):
        """The layer before has done this one's forward with its own."""

    # --- layouts, see `layers.core.plan` --------------------------------------------------------------------------

    def reads_blocks(self):
        """Whether forward takes bottoms in blocks of 16 channels, for their shapes now."""
        return False

    def writes_blocks(self):
        """Whether forward can write tops in blocks."""
        return False

    def backward_in_blocks(self):
        """Whether backward takes values and gradients in blocks and writes gradients so, if they are wanted at all."""
        return False

    def planned(self):
        """The plan has given the blobs around their layouts: choose kernels anew."""

    def joined(self, bottom, top):
        """Return [(bottom, channel)]: bottoms that are channels of the top, from a multiple of 16 on, so may be written there."""
        return []

    def kernel(self):
        """Return (name, why in words) of what computes forward, for the plan."""
        return "plain", ""

    def kept_bytes(self):
        """Return the bytes that the layer keeps beside its blobs, for their shapes now."""
        return 0

    def bytes_cuda(self):
        """Return the bytes on `self.card` beside the blobs, for their shapes now: (kept between calls, most within a call)."""
        return 0, 0

    def border_step(self, rectify):
        """Return the `layers.core.border.Step` of this layer, or None where it has none; `rectify` as in `forward_fused`."""
        return

    def backward(self, top, propagate_down, bottom):
        """Write the bottoms' diffs where `propagate_down` says so, add to the parameters' diffs."""
        raise NotImplementedError(f"{type(self).__name__}.backward")

    def state(self):
        """Return what an exact resume needs beside the parameters (JSON-able), or None."""
        return

    def state_on_host(self):
        """Return what of `state` work that a card has recorded does not change when it is done again."""
        return self.state()

    def set_state(self, state):
        """Take back what `state` returned."""

    def close(self):
        """Give back files and threads."""

    def canonical_axis(self, axis, num_axes):
        """Return `axis` of bottom 0, which has `num_axes`, counted from the front; out of range is refused."""
        return geometry.canonical_axis(axis, num_axes, self.called(0), self.fail)

    def called(self, number):
        """Return the name of bottom `number` in quotes, for messages."""
        return f"'{self.param.bottom[number]}'" if number < len(self.param.bottom) else f"bottom {number}"

    def fail(self, text):
        """Raise an `Error` that begins with the layer's name, type and place in the prototxt."""
        place = f", {self.where}" if self.where else ""
        raise Error(f"layer '{self.name}' ({self.type or type(self).__name__}{place}): {text}")
