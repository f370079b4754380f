"""Command lines of Caffe's tools for argparse: ``-gray``, ``--gray``, ``-gray=true``, ``-nogray``, ``-backend=lmdb``."""

from netspec.errors import UnknownName

TRUE, FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")


def add_switch(parser, name, text):
    """Add a flag that is on or off, off by default."""
    parser.add_argument(f"-{name}", f"--{name}", action="store_true", help=text)


def add_value(parser, name, text, **options):
    """Add a flag with a value."""
    parser.add_argument(f"-{name}", f"--{name}", help=text, **options)


def written_out(arguments, switches):
    """Return the arguments with switches in argparse's only form: ``-name`` for on, nothing for off."""
    found = []
    for argument in arguments:
        name, equals, value = argument.lstrip("-").partition("=")
        if not argument.startswith("-") or name.removeprefix("no") not in switches and name not in switches:
            found.append(argument)
        elif name not in switches:
            found = [one for one in found if one.lstrip("-") != name.removeprefix("no")]
        elif not equals or value.lower() in TRUE:
            found.append(f"-{name}")
        elif value.lower() not in FALSE:
            raise UnknownName(f"-{name} is on or off: true or false, not '{value}'")
    return found
