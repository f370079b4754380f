"""Running a door in a test: its exit code and what it printed."""

import pathlib

from netspec import errors


def run(capsys, main, *arguments):
    """Run the door `main`; return (exit code, stdout, stderr). A traceback fails the test."""
    capsys.readouterr()
    try:
        code = errors.run_door(main, [str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse: --help and wrong usage
        code = stop.code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def refused(capsys, main, *arguments, code=1):
    """Run a door that must refuse; return its one line, which must begin with ``error: ``."""
    got, _, err = run(capsys, main, *arguments)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert got == code, err
    assert len(lines) == 1, err
    return lines[0]


def write(path, text):
    """Write a text file; return its path."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
