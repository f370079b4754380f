"""What deepjet says when something is the user's to mend: what, where, both values, the cure."""

import difflib
import os
import signal
import sys


class Error(ValueError):
    """A mistake in a file, an option or a shape. Its text is one line that a person can act on."""


class PathError(Error, FileNotFoundError):
    """A file that is not there; the text lists every place that was tried."""

    def __str__(self):
        return str(self.args[0]) if self.args else ""


class UnknownName(Error):
    """An unknown name of a model, layer, door or option; the text lists the good ones. Doors exit with 2 on it."""


def nearest(name, names):
    """Return ``"; did you mean 'x'?"`` for the known name closest to `name`, or ``""`` when none is near.

    Case is ignored in the comparison, so that ``convolution`` finds ``Convolution``.
    """
    names = list(names)
    folded = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return f"; did you mean '{folded[close[0]]}'?" if close else ""


def let_imports_be_interrupted():
    """Let Ctrl-C end a command silently while its modules are being imported, before `run_door` can see to it.

    For the packages that hold doors: `python -m` imports the package first, and only then is sys.argv[0] still "-m".
    """
    if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_door(main, argv=None):
    """Run a command and turn the user's mistakes into one line on stderr; return its exit code.

    Exit codes: what `main` returns; 1 for an `Error` or a failing system call (full disk, no permission); 2 for an
    unknown name (argparse also uses 2); 130 after Ctrl-C.
    """
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = main(argv)
        sys.stdout.flush()
        return code
    except UnknownName as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of our stdout went away (`| head`): no message, and no second one from Python at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError as error:
        print(f"error: out of memory: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 1
