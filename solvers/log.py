"""The log: glog's lines as Caffe prints them, so that Caffe's stock log parsers read ours.

    I1120 13:39:22.381027 25210 solver.cpp:204] Iteration 20, loss = 1.5
    level and date, time, thread, place in Caffe's source (or in ours), message

Everything in deepjet that has something to say uses the logger "deepjet" of Python's `logging`; `start` sends it to
stderr in this form. GLOG_minloglevel (0 all, 1 warnings, 2 errors, 3 nothing) is obeyed as by Caffe.
"""

import contextlib
import datetime
import logging
import os
import sys
import threading

logger = logging.getLogger("deepjet")
LEVEL = "GLOG_minloglevel"  # glog's own spelling
_LEVELS = {"0": logging.INFO, "1": logging.WARNING, "2": logging.ERROR, "3": logging.CRITICAL + 1}


class Format(logging.Formatter):
    """One glog line a record; `place` of the record (see `info`) or the file and line of the call."""

    def format(self, record):
        """Return the line."""
        when = datetime.datetime.fromtimestamp(record.created)
        place = getattr(record, "place", None) or f"{record.filename}:{record.lineno}"
        letter = "F" if record.levelno > logging.ERROR else record.levelname[0]
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return f"{letter}{when:%m%d %H:%M:%S.%f} {threading.get_native_id():5d} {place}] {text}"


class Stderr(logging.Handler):
    """Writes to what stderr is at the moment, above the progress bar if there is one."""

    def __init__(self):
        super().__init__()
        self.setFormatter(Format())
        self.bar = None

    def emit(self, record):
        """Write one line."""
        try:
            line = self.format(record)
            if self.bar is not None:
                self.bar.write(line, file=sys.stderr)
            else:
                sys.stderr.write(line + "\n")
                sys.stderr.flush()
        except BrokenPipeError:
            pass  # whoever read the log went away; the training goes on
        except Exception:  # logging's own way to report a bad format string
            self.handleError(record)


class File(logging.FileHandler):
    """Appends to a file; says once when that is no longer possible (a full disk), and the training goes on."""

    def __init__(self, path):
        super().__init__(path, encoding="utf-8")
        self.setFormatter(Format())
        self.failed = False

    def emit(self, record):
        """Write one line."""
        if not self.failed:
            super().emit(record)

    def handleError(self, record):  # noqa: N802 (logging's name)
        """Say why a line could not be written."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self.failed = True
        sys.stderr.write(f"warning: cannot write to the log '{self.baseFilename}' any more: {error.strerror}\n")

    def close(self):
        """Close the file; what a full disk did not take is lost, and was said."""
        with contextlib.suppress(OSError):
            super().close()


_stderr = Stderr()


def start():
    """Send the log to stderr, unless the program has set up the logger "deepjet" itself."""
    if not logger.handlers:
        logger.addHandler(_stderr)
    if _stderr in logger.handlers:
        # Asked every time: scripts set the variable before they make their solver.
        logger.setLevel(_LEVELS.get(os.environ.get(LEVEL, "0"), logging.INFO))


def info(place, text):
    """Log one line; `place` is Caffe's source file and line, such as ``solver.cpp:218``."""
    logger.info("%s", text, extra={"place": place})


def warning(place, text):
    """Log one line as a warning."""
    logger.warning("%s", text, extra={"place": place})


def number(value):
    """Return a number as C++ streams print it: six digits, ``1e-10``, ``87.3365``."""
    return f"{float(value):g}"


@contextlib.contextmanager
def copied_to(path):
    """Append the log to the file `path` too, while the context lasts."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    handler = File(path)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


@contextlib.contextmanager
def above(bar):
    """Print log lines above the tqdm bar `bar`, while the context lasts."""
    _stderr.bar = bar
    try:
        yield bar
    finally:
        _stderr.bar = None
