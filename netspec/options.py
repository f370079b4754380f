"""What several commands read from their command lines: ``KEY=VALUE``, ``NAME=1,3,500,500``, ``B,G,R``."""

import ast
import math
import sys

from netspec.errors import UnknownName


def add_allow_unknown(parser):
    """Add --allow-unknown, for a command that reads nets."""
    parser.add_argument("--allow-unknown", action="store_true",
                        help="drop fields that neither Caffe nor a known fork of it has, and list them on stderr (never "
                        "layers)")


def dropped_by(options):
    """Return what the `dropped` of `text.read_net` must be: a list with --allow-unknown, None without."""
    return [] if options.allow_unknown else None


def say_dropped(dropped):
    """Print what `text.read_net` dropped to stderr."""
    for sentence in dropped or ():
        print(f"warning: {sentence}", file=sys.stderr)


def key_values(settings, option="--data", such="voc_dir=/data/VOC2011"):
    """Return {key: value} of ``KEY=VALUE`` strings; a value is a Python literal (a tuple, a number) or else a string."""
    found = {}
    for setting in settings or ():
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise UnknownName(f"{option} takes KEY=VALUE, such as {such}; got '{setting}'")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            found[key] = value
    return found


def named_shapes(settings, option="--input"):
    """Return {blob name: shape} of strings such as ``data=1,3,500,500`` or ``data=1x3x500x500``."""
    found = {}
    for setting in settings or ():
        name, _, sizes = setting.partition("=")
        try:
            shape = tuple(int(size) for size in sizes.replace("x", ",").split(","))
        except ValueError:
            shape = ()
        if not name or not shape or min(shape) < 1:
            raise UnknownName(f"{option} takes NAME=SHAPE, such as data=1,3,500,500; got '{setting}'")
        found[name] = shape
    return found


def three_numbers(setting, option="--mean"):
    """Return the tuple of ``B,G,R``."""
    try:
        numbers = tuple(float(value) for value in setting.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise UnknownName(f"{option} takes three numbers, blue,green,red, such as 104.007,116.669,122.679; "
                          f"got '{setting}'")
    return numbers
