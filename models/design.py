"""What the paper varies from net to net, as options of the recipes: ``--set KEY=VALUE`` of `netspec.make`.

A `Design` holds them all, checked. Its parts go to three places: `keys` into the data layer's param_str, `solver` into
the solver, the rest into the net (`streams`, `losses`, `trunks`). One list of settings so gives the files of one variant.
Every default is what the published files say; where the paper says something else, that is another value (README).
"""

import dataclasses

from data.augment import CONDITIONS
from netspec.errors import Error, UnknownName, nearest

FINEST = (32, 16, 8)
POOLS = {"pool5": 32, "pool4": 16, "pool3": 8}  # where a truncated net is scored, and its stride there
# Table 2: images whose gradients make one update, momentum. "table1" is section 4.1's way to train, as for classifiers.
LEARNING = {"heavy": (1, 0.99), "online": (1, 0.9), "accum": (20, 0.9), "table1": (20, 0.9)}
NORMALIZATIONS = ("BATCH_SIZE", "VALID", "NONE", "FULL")
SKIP_RATE = 0.01  # the rate drops by this when a skip is added (4.3)

HELP = {
    "finest": "32, 16 or 8: the stride of the finest stream that is fused (4.3); the names let weights carry over",
    "only": "pool5, pool4 or pool3: the trunk ends there and only it is scored (Table 3)",
    "interpolation": "fixed (published) or learned (4.3): the upsampling between streams; the last is always fixed",
    "fusion": "sum, or max (4.3)",
    "form": "plain; dilated: no layer skips a place, filters have holes; stitched: the plain trunk on the image shifted by "
            "every pixel of its stride, its outputs interlaced (3.2); both give the same score for each pixel",
    "upsampling": "centred: kernels of 2f (published), on the pixel; corners: of 2f - 1, the formula of 3.3, half a pixel off",
    "pad": "of the first convolution (published: 100; 97 is the least that covers every size)",
    "average_pool": "True: keep GoogLeNet's 7x7 average pooling, which 4.1 discards and Table 1's field of 907 counts",
    "late": "average (published, and section 5) or sum (caption of Table 5) of the two nets' scores",
    "features": "learned, or fixed: only score layers learn, and nothing is computed backward below them (Table 3)",
    "biases": "published (twice the rate of weights, no decay; in AlexNet as weights), or paper: twice the rate, and decay (4.1)",
    "normalization": "of the loss: BATCH_SIZE (published: a sum, divided by the images of a batch), NONE (a sum), VALID "
                     "(a mean over labelled pixels), FULL",
    "loss": "softmax, or sigmoid: a cross-entropy for each class by itself (4.4)",
    "background": "learned, or null: its score is the constant 0 (6.1); with the sigmoid loss",
    "class_weights": "weights of the classes in the loss (4.4): a number for background, or a tuple for all",
    "condition": "a row of Table 8: what is masked in training and testing; " + ", ".join(CONDITIONS),
    "mirror": "True: training images are mirrored at random (4.4)",
    "jitter": "pixels by which training images are moved at random (4.4: 32)",
    "sampling": "probability p to keep a cell of the loss; the solver takes 1/p times the images (3.4, 4.4)",
    "training_set": "sbd (8498 images, published) or voc (VOC 2011's own 1112): section 4.4's more training data",
    "rate": "of the solver: published, or paper where the text has another",
    "iterations": "of the solver: max_iter, its published field; loop, what the published solve.py runs",
    "learning": "of the solver: heavy, online or accum (Table 2), or table1 (4.1: 20 images, momentum 0.9)",
    "gradients": "of several images: mean (Caffe divides by iter_size), or sum as 6.2 has it, by rate and decay",
    "stages": "atonce, or staged: the rate is a hundredth for each skip (4.3); start from the coarser net's weights",
}


@dataclasses.dataclass(frozen=True)
class Design:
    """The options of a net, its data layer and its solver; see `HELP`."""

    finest: int = 32
    only: str | None = None
    interpolation: str = "fixed"
    fusion: str = "sum"
    form: str = "plain"
    upsampling: str = "centred"
    pad: int = 100
    average_pool: bool = False
    late: str = "average"
    features: str = "learned"
    biases: str = "published"
    normalization: str | None = None  # None: "BATCH_SIZE", with learning "table1" "VALID"
    loss: str = "softmax"
    background: str = "learned"
    class_weights: float | tuple | None = None
    condition: str = "Reference"
    mirror: bool = False
    jitter: int = 0
    sampling: float | None = None
    training_set: str = "sbd"
    rate: str = "published"
    iterations: str = "max_iter"
    learning: str | None = None
    gradients: str | None = None  # None: "mean"; with sampled terms of a loss that is a sum, "sum"
    stages: str = "atonce"

    def __post_init__(self):
        for key, good in (("finest", FINEST), ("only", (None, *POOLS)), ("interpolation", ("fixed", "learned")),
                          ("fusion", ("sum", "max")), ("form", ("plain", "dilated", "stitched")),
                          ("upsampling", ("centred", "corners")), ("average_pool", (False, True)),
                          ("training_set", ("sbd", "voc")), ("rate", ("published", "paper")),
                          ("iterations", ("max_iter", "loop")), ("late", ("average", "sum")), ("features", ("learned", "fixed")),
                          ("biases", ("published", "paper")), ("normalization", (None, *NORMALIZATIONS)),
                          ("loss", ("softmax", "sigmoid")), ("background", ("learned", "null")),
                          ("condition", tuple(CONDITIONS)), ("mirror", (False, True)), ("learning", (None, *LEARNING)),
                          ("gradients", (None, "mean", "sum")), ("stages", ("atonce", "staged"))):
            self._one_of(key, good)
        if self.background == "null" and self.loss != "sigmoid":
            raise Error("background=null needs loss=sigmoid: a softmax over the other classes alone cannot say background")
        if self.class_weights is not None and self.loss != "softmax":
            raise Error("class_weights are of the softmax loss; leave out loss=sigmoid")
        if self.sampling is not None and not (_number(self.sampling) and 0 < self.sampling <= 1):
            raise Error(f"sampling is {self.sampling!r}; give a probability above 0, at most 1")
        if isinstance(self.jitter, bool) or not isinstance(self.jitter, int) or not 0 <= self.jitter <= 4096:
            raise Error(f"jitter is {self.jitter!r}; give 0 to 4096 pixels")
        if isinstance(self.pad, bool) or not isinstance(self.pad, int) or not 0 <= self.pad <= 4096:
            raise Error(f"pad is {self.pad!r}; give 0 to 4096 pixels")
        if self.form != "plain" and not self.only and self.finest != FINEST[0]:
            raise Error(f"form={self.form} is of nets with one stream; set finest=32 or only=pool4")
        if self.upsampling == "corners" and not self.only and self.finest != FINEST[0]:
            raise Error("upsampling=corners puts streams half a pixel apart, so that they cannot be fused; set finest=32")
        if self.only and self.fusion == "max":
            raise Error("fusion=max needs several streams; a net on one pool has none to fuse")

    def _one_of(self, key, good):
        value = getattr(self, key)
        if value not in good or isinstance(value, bool) != isinstance(good[-1], bool):
            raise UnknownName(f"{key} is {value!r}{nearest(str(value), [one for one in good if isinstance(one, str)])}; "
                              f"it may be {', '.join(str(one) for one in good if one is not None)}")

    @property
    def stride(self):
        """The stride of the finest stream."""
        return POOLS[self.only] if self.only else self.finest

    @property
    def normalized(self):
        """Caffe's name of what the loss is divided by."""
        return self.normalization or ("VALID" if self.learning == "table1" else "BATCH_SIZE")

    @property
    def images(self):
        """How many images' gradients make one update, None when the options do not say."""
        if self.learning is None and self.sampling is None:
            return None
        return max(1, round(LEARNING.get(self.learning, (1,))[0] / (self.sampling or 1)))

    def weights_of(self, classes):
        """Return the weight of each class as a list of floats."""
        given = self.class_weights
        weights = list(given) if isinstance(given, tuple | list) else [given] + [1] * (classes - 1)
        if len(weights) != classes or not all(_number(one) and 0 <= one < 1e6 for one in weights):
            raise Error(f"class_weights is {given!r}; give the weight of background, or {classes} of them, all 0 or more")
        return [float(one) for one in weights]

    def keys(self, split, splits):
        """Return what these options say in the data layer's param_str of `split`; the first of `splits` is trained on."""
        training = split == splits[0]
        mask = CONDITIONS[self.condition][0 if training else 1]
        keys = {"mask": mask} if mask else {}
        if training:
            keys.update({key: getattr(self, key) for key in ("mirror", "jitter", "sampling") if getattr(self, key)})
            if self.sampling:
                keys["cell"] = self.stride
            if self.loss == "sigmoid":
                keys["one_hot"] = True
            if self.background == "null":
                keys["null_background"] = True
        return keys

    def solver(self, fields, paper_rate=None, loop=None):
        """Return the solver's `fields` (a dict) as these options change them.

        Updates from several images are that many fewer, so that the number of images stays what it was.

        Parameters
        ----------
        paper_rate : float
            The rate that the paper's text gives this net, where the published file has another or there is none.
        loop : int
            Iterations of the published solve.py, whatever max_iter says.
        """
        fields = dict(fields)
        if self.iterations == "loop":
            fields["max_iter"] = _there(loop, "iterations=loop is for models with a published solve.py that says others")
        if self.stages == "staged":
            fields["base_lr"] *= SKIP_RATE ** FINEST.index(self.finest)
        if self.rate == "paper" or self.learning == "table1":
            fields["base_lr"] = _there(paper_rate, "rate=paper and learning=table1 are for nets whose rate the text gives")
        if self.learning:
            fields["momentum"] = LEARNING[self.learning][1]
        before, images = fields["iter_size"], self.images or fields["iter_size"]
        if images != before:
            fields["iter_size"] = images
            for key in ("max_iter", "snapshot"):
                fields[key] = max(1, fields[key] * before // images)
        summed = self.sampling is not None and self.learning is None and self.normalized in ("BATCH_SIZE", "NONE")
        if (self.gradients or ("sum" if summed else "mean")) == "sum":
            fields["base_lr"] *= images
            fields["weight_decay"] /= images
        return fields


COMMON = ("biases", "normalization", "mirror", "jitter", "learning", "gradients")  # of every model
PASCAL = (*COMMON, "features", "class_weights", "condition", "sampling", "pad", "training_set")  # of VGG nets
NAMES = tuple(field.name for field in dataclasses.fields(Design))
PUBLISHED = Design()


def design(given):
    """Return the Design of the options `given` (a dict); an unknown one is refused."""
    for key in given:
        if key not in NAMES:
            raise UnknownName(f"no option '{key}'{nearest(key, NAMES)}; options: {', '.join(NAMES)}")
    return Design(**given)


def describe(*names):
    """Return {name: help} of the options `names`: what a recipe declares as its OPTIONS."""
    return {name: HELP[name] for name in names}


def apart(given):
    """Return (options, others) of the dict `given`: those of a Design and the rest."""
    return ({key: value for key, value in given.items() if key in NAMES},
            {key: value for key, value in given.items() if key not in NAMES})


def _there(value, otherwise):
    if value is None:
        raise Error(otherwise)
    return value


def _number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)
