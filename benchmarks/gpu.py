"""Everything worth knowing about our kernels on a card, in under eight minutes: what is right first, then how fast it is.

    python -m benchmarks.gpu                          all parts; benchmarks/results/ gets the table
    python -m benchmarks.gpu --parts machine goldens  some parts
    NUMBA_ENABLE_CUDASIM=1 python -m benchmarks.gpu --toy --out /tmp/toy
                                                      all parts on toys and the simulated card: to see that everything runs

With a PyTorch that has CUDA its times stand beside ours. Exit status: 0 if all parts ran and what must be equal is, 1 if not,
2 if there is no card.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time

from benchmarks import gpu_report
from benchmarks.gpu_parts import PARTS
from benchmarks.run import RESULTS
from layers.core.cuda import card as cards
from netspec.errors import Error

ROOT = os.path.dirname(os.path.dirname(RESULTS))
SECONDS = 460  # of all parts
LEAST = 5  # seconds below which a part is not begun


def main(argv=None):
    """Run the parts one after another and write what they found."""
    options = _parser().parse_args(argv)
    try:
        card = cards.find("gpu")
    except Error as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        return 2
    if cards.simulated() and not options.toy:
        print("benchmarks.gpu: the card is simulated (NUMBA_ENABLE_CUDASIM), which takes hours for real nets: add --toy, or "
              "unset it", file=sys.stderr)
        return 2
    command = "python -m benchmarks.gpu " + shlex.join(sys.argv[1:] if argv is None else argv)
    begun, results = time.perf_counter(), {}
    out = options.out or RESULTS
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        try:
            for name in (name for name in PARTS if name in options.parts):
                results[name] = _run(name, folder, options.toy, options.seconds - (time.perf_counter() - begun))
                said = results[name].get("stopped", "done")
                print(f"{time.perf_counter() - begun:6.0f} s  {name}: {said}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("stopped; what was measured follows", file=sys.stderr)
    page = gpu_report.markdown(card.name, results, command.strip(), time.perf_counter() - begun)
    print(page)
    if options.out or not options.toy and len(results) == len(PARTS):
        os.makedirs(out, exist_ok=True)
        path = os.path.join(out, gpu_report.file_name(card.name))
        with open(f"{path}.md", "w") as file:
            file.write(page)
        with open(f"{path}.json", "w") as file:
            json.dump({"command": command, "parts": results}, file, indent=1)
        print(f"written: {path}.md and .json", file=sys.stderr)
    return 0 if gpu_report.all_right(results) else 1


def _run(name, folder, toy, left):
    """Return what one part found, with "stopped" if it did not come to its end."""
    limit = PARTS[name][1] * (4 if toy else 1)
    seconds = limit if toy else min(limit, left)
    if seconds < LEAST:
        return {"stopped": "no time was left"}
    path = os.path.join(folder, f"{name.replace(' ', '-')}.json")
    command = [sys.executable, "-m", "benchmarks.gpu_parts", name, folder, path, *(["--toy"] if toy else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH"))))}
    with open(f"{path}.log", "w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            code = process.wait(seconds)
            stopped = f"failed ({code})" if code else None
        except subprocess.TimeoutExpired:
            stopped = f"took more than {seconds:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # with the processes that it began
                process.wait()
        log.seek(0)
        said = log.read().strip().splitlines()
    found = {}
    if os.path.exists(path):
        with open(path) as file:
            found = json.load(file)
    if stopped:
        found |= {"stopped": f"{stopped}: {said[-1][:300]}" if said else stopped, "log": said[-30:]}
    return found


def _parser():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS), metavar="NAME",
                        help=f"which (default: all): {', '.join(PARTS)}")
    parser.add_argument("--toy", action="store_true", help="tiny shapes, for the simulated card")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of all parts together (default: %(default)s)")
    parser.add_argument("--folder", help="where nets and weights are written for the time of the run (about 1.5 GB)")
    parser.add_argument("--out", metavar="FOLDER", help="where the table goes (default: benchmarks/results, and only when all "
                                                        "parts were asked for)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
