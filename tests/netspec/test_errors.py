"""Exit codes and one-line errors of commands; Ctrl-C at every moment of one."""

import signal
import subprocess
import sys

import pytest

from netspec.errors import Error, PathError, UnknownName, nearest, run_door
from tests.support import ROOT


def failing(error):
    def main(argv):
        raise error

    return main


@pytest.mark.parametrize("error, code, said", [
    (Error("the kernel does not fit"), 1, "error: the kernel does not fit\n"),
    (PathError("no such file"), 1, "error: no such file\n"),
    (UnknownName("no model 'x'"), 2, "error: no model 'x'\n"),
    (OSError(28, "No space left on device", "/x"), 1, "error: /x: No space left on device\n"),
    (MemoryError("3 TiB"), 1, "error: out of memory: 3 TiB\n"),
    (KeyboardInterrupt(), 130, "stopped\n"),
])
def test_a_mistake_is_one_line_and_an_exit_code(capsys, error, code, said):
    assert run_door(failing(error)) == code
    assert capsys.readouterr() == ("", said)


def test_a_mistake_of_our_own_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_door(failing(ZeroDivisionError()))


def test_nearest_name_ignores_case_and_may_be_none():
    assert nearest("convolution", ["Convolution", "Pooling"]) == "; did you mean 'Convolution'?"
    assert nearest("xyz", ["Convolution"]) == ""


CTRL_C_WHILE_IMPORTING = """
import os, signal, sys
sys.argv = [{first!r}]
import netspec
from netspec.errors import run_door
if {late}:
    run_door(lambda argv: os.kill(os.getpid(), signal.SIGINT))
else:
    os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.parametrize("first, late, said", [
    ("-m", False, ""),  # a door's imports, as `python -m` begins them: it ends at once
    ("-m", True, "stopped\n"),  # the door itself: it can tidy up
    ("script.py", False, "Traceback"),  # a user's script that imports us: its Ctrl-C is its own affair
])
def test_ctrl_c_while_a_door_is_imported_prints_nothing(first, late, said):
    program = CTRL_C_WHILE_IMPORTING.format(first=first, late=late)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert ended.stderr == said if said != "Traceback" else said in ended.stderr
    assert ended.returncode == (0 if late else -signal.SIGINT)
