"""The log: Caffe's line format, a copy in a file."""

import logging
import os
import re

import pytest

from solvers import log


@pytest.fixture
def logger(monkeypatch):
    monkeypatch.setattr(log.logger, "handlers", [])
    monkeypatch.setattr(log.logger, "level", logging.INFO)
    monkeypatch.setattr(log.logger, "propagate", False)


def test_lines_are_glogs(logger, tmp_path):
    with log.copied_to(tmp_path / "new" / "train ü.log"):
        log.info("solver.cpp:218", "Iteration 0, loss = 3.04452")
        log.warning("run.py:1", "100% odd")
    lines = (tmp_path / "new" / "train ü.log").read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ solver\.cpp:218\] Iteration 0, loss = 3\.04452", lines[0])
    assert re.fullmatch(r"W\d{4} .* run\.py:1\] 100% odd", lines[1])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, where every write finds the disk full")
def test_a_full_disk_is_said_once_and_training_goes_on(logger, capsys):
    with log.copied_to("/dev/full"):
        for _ in range(3):
            log.info("solver.cpp:218", "Iteration 0, loss = 1")
    said = capsys.readouterr().err
    assert said == "warning: cannot write to the log '/dev/full' any more: No space left on device\n"
