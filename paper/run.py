"""Run the paper's experiments that have no kept result, and write docs/paper.md and docs/paper.html from all results."""

import argparse
import contextlib
import datetime
import json
import logging
import os
import platform
import subprocess
import sys
import time
import traceback

import tqdm
from PIL import Image

from layers.core.cpu import parallel
from netspec import files
from netspec.errors import Error, PathError, run_door
from paper import experiment, page
from solvers import engine, log

EXAMPLES = """examples:
  python -m paper.run --list                       the experiments, their places in the paper, which have a result
  python -m paper.run --real ../shared/real        all that have none yet; results go to paper/results/, the pages to docs/
  python -m paper.run table1 bilinear --force      these again"""


def main(argv=None):
    """Run, keep, write the pages; return 0, or 1 when an experiment failed."""
    options = _parser().parse_args(argv)
    broken = []
    chosen = experiment.find(options.names, broken)
    if options.list:
        return _list(chosen, broken)
    if options.page:
        _write_pages()
        return 0
    if options.real is not None and not os.path.isdir(options.real):
        raise PathError(f"folder '{options.real}' of --real not found; tried: {os.path.abspath(options.real)}")
    if options.threads is not None:
        parallel.set_threads(options.threads)
    device = engine.device(options.device)
    due, kept = [], 0
    for one in chosen:
        if not options.force and _valid(one):
            kept += 1
        elif "real" in one.needs and options.real is None:
            _print(f"not run: {one.name} needs {experiment.NEEDS['real']}")
        else:
            due.append(one)
    _print(f"{len(due)} experiments to run; {kept} have a result that still holds{'; --force runs them again' if kept else ''}")
    try:
        failed = broken + _run_all(due, options.real, device)
    finally:
        # Also after Ctrl-C: what is done is on the page.
        _write_pages()
    for name, why in failed:
        _print(f"failed: {name}: {why}")
    return 1 if failed else 0


def _parser():
    parser = argparse.ArgumentParser(prog="python -m paper.run", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments (default: all)")
    parser.add_argument("--list", action="store_true", help="only print the experiments")
    parser.add_argument("--page", action="store_true", help="only write the pages, from the results that are there")
    parser.add_argument("--force", action="store_true", help="also run those that have a result which still holds")
    parser.add_argument("--real", metavar="DIR", help="folder of real photographs, labels and weights, for those that need it")
    parser.add_argument("--device", metavar="N", help="NVIDIA card to compute on, counted from 0, or 'cpu' (default: "
                                                      "DEEPJET_DEVICE, or the CPU)")
    parser.add_argument("--threads", metavar="N", type=engine.positive, help="threads to compute with (default: all cores)")
    return parser


def _list(chosen, broken):
    lines = [("name", "place", "minutes", "needs", "result", "title")]
    for one in chosen:
        result = one.kept()
        state = "none" if result is None else result["date"] if one.is_valid(result) else "of an older version"
        lines.append((one.name, one.place, f"{_minutes(one):.1f}", " ".join(one.needs) or "-", state, one.title))
    wide = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(line, wide)).rstrip())
    for _, why in broken:
        _print(f"error: {why}")
    return 1 if broken else 0


def _valid(one):
    result = one.kept()
    return result is not None and one.is_valid(result)


def _minutes(one):
    # What it took the last time, or what its file says.
    result = one.kept()
    return result["seconds"] / 60 if result else one.minutes


def _run_all(due, real, device):
    failed = []
    minutes = [_minutes(one) for one in due]
    with Bar(minutes) as bar, _warnings(bar.say):
        for number, one in enumerate(due):
            bar.begin(number, one)
            context = experiment.Context(one.name, real, device, say=bar.say, progress=bar.progress)
            begun = time.perf_counter()
            try:
                result, pictures = one.run(context)
                _keep(one, result, pictures, context, time.perf_counter() - begun + context.earlier)
            except (Error, MemoryError, OSError) as error:
                failed.append((one.name, str(error)))
                bar.say(f"failed: {one.name}: {error}")
            except Exception as error:  # an experiment's own bug is reported with its place and does not stop the others
                failed.append((one.name, f"{type(error).__name__}: {error}"))
                bar.say(f"failed: {one.name}\n{traceback.format_exc().rstrip()}")
    return failed


@contextlib.contextmanager
def _warnings(say):
    """Let only warnings of the engine's log through, above the bar."""
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: say(record.getMessage())
    log.logger.addHandler(handler)
    try:
        yield
    finally:
        log.logger.removeHandler(handler)


def _keep(one, result, pictures, context, seconds):
    # Pictures of real photographs stay in the scratch folder, which git ignores.
    folder = context.folder / "pictures" if "real" in one.needs else experiment.RESULTS / one.name
    for name, picture in pictures.items():
        with files.atomic(folder / f"{name}.png") as file:
            Image.fromarray(picture).save(file, "PNG", optimize=True)
    about = {"stamp": one.stamp(context.seed), "seed": context.seed, "seconds": round(seconds, 2),
             "date": datetime.date.today().isoformat(), "revision": revision(), "machine": machine(context.device)}
    files.write_text(one.result_path, json.dumps({**result, **about}, indent=1, ensure_ascii=False) + "\n")


def _write_pages():
    results = []
    for one in experiment.find(broken=[]):
        result = one.kept()
        if result is None:
            continue
        if one.is_valid(result):
            results.append(result)
        else:
            _print(f"not on the page: {one.result_path.name}, of an older version of the experiment; to run it again: "
                   f"python -m paper.run {one.name}")
    for path in page.write(results, scratch=experiment.SCRATCH):
        _print(f"written: {os.path.relpath(path)}")


class Bar:
    """The progress bar over all experiments, in minutes; without a terminal a line for each beginning.

    Parameters
    ----------
    minutes : list of float
        What each experiment is thought to take.
    """

    def __init__(self, minutes):
        self.minutes, self.number, self.begun = minutes, 0, 0.0
        self.shows = sys.stderr.isatty()
        self.bar = tqdm.tqdm(total=sum(minutes), file=sys.stderr, disable=not self.shows, dynamic_ncols=True,
                             bar_format="{desc} {percentage:3.0f}%|{bar}| {postfix}")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if not any(error):
            self.number = len(self.minutes)
        self._show(0)
        self.bar.close()

    def begin(self, number, one):
        """The experiment `number` begins."""
        self.number, self.begun = number, time.perf_counter()
        self.bar.set_description_str(one.name, refresh=False)
        if not self.shows:
            self.say(f"{number + 1}/{len(self.minutes)} {one.name}: {one.title}; {clock(self.minutes[number])} of "
                     f"{clock(sum(self.minutes[number:]))} left")
        self._show(0)

    def progress(self, fraction):
        """This much of the experiment is done; its time is reckoned anew from it."""
        if fraction > 0.02:
            self.minutes[self.number] = max((time.perf_counter() - self.begun) / 60 / fraction, 1e-6)
        self._show(fraction)

    def say(self, line):
        """Print a line above the bar."""
        tqdm.tqdm.write(line, file=sys.stderr)

    def _show(self, fraction):
        if not self.shows:
            return
        done = sum(self.minutes[: self.number]) + (self.minutes[self.number] * fraction if self.number < len(self.minutes) else 0)
        self.bar.total = max(sum(self.minutes), 1e-9)
        self.bar.n = min(done, self.bar.total)
        self.bar.set_postfix_str(f"{clock(self.bar.total - self.bar.n)} left")


def clock(minutes):
    """Return "40 s" or "12 min"."""
    return f"{60 * minutes:.0f} s" if minutes < 1.5 else f"{minutes:.0f} min"


def revision():
    """Return git's revision, with "+" when files differ from it, or "unknown"."""
    try:
        out = [subprocess.run(["git", "-C", files.ROOT, *words], capture_output=True, text=True, check=True).stdout.strip()
               for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no", "--", ".",
                                                               ":!docs", ":!paper/results"])]
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return out[0] + ("+" if out[1] else "")


def machine(device):
    """Return one line on what computes: processor, threads or card."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    except OSError:
        pass
    card = device or os.environ.get("DEEPJET_DEVICE", "cpu")
    return f"{name}, {parallel.threads()} threads" + ("" if str(card) == "cpu" else f", {card}")


def _print(line):
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run_door(main))
