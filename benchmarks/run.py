"""Our speed beside that of other engines: equality first, then time in turns, then a table.

    python -m benchmarks.run                                    all rows, all engines; benchmarks/results/ gets the table
    python -m benchmarks.run --rows 'FCN-8s*' --peers ncnn      some rows, one engine
    python -m benchmarks.run --isa avx2                         ours and the engines that can be held to AVX2
"""

import argparse
import fnmatch
import json
import os
import shlex
import sys
import tempfile
import time

from benchmarks import machine, measure, report, rows
from benchmarks.engines import ENGINES

RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results")


def main(argv=None):
    """Measure and write."""
    options = _parser().parse_args(argv)
    chosen = [row for row in rows.ROWS if any(fnmatch.fnmatch(row.name, one) for one in options.rows)]
    if options.list:
        for row in chosen:
            print(f"{row.name:42} {', '.join(row.peers)}")
        return 0
    for what, words, names in (("row", options.rows, [row.name for row in rows.ROWS]), ("engine", options.peers, ENGINES)):
        for word in words:
            if not any(fnmatch.fnmatch(name, word) for name in names):
                print(f"error: no {what} is called '{word}'; there are: {'; '.join(names)}", file=sys.stderr)
                return 2
    count = options.threads or len(os.sched_getaffinity(0))
    about = machine.describe(count, options.isa)
    begun = time.perf_counter()

    def say(line):
        print(f"{time.perf_counter() - begun:6.0f} s  {line}", file=sys.stderr, flush=True)

    results = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        bench = measure.Bench(folder, machine.environment(count, options.isa), options.seconds, 1 if options.quick else 3,
                              options.peers, say)
        if options.quick:
            bench.seconds = 0
        if options.isa:
            bench.missing.update({name: f"{name} {why}" for name, why in machine.NOT_HELD.items()})
        try:
            for row in chosen:
                try:
                    results += bench.row(row)
                except measure.EngineError as error:
                    say(f"  {error}")
                    results.append({**measure.empty(row), "notes": [str(error)]})
        except KeyboardInterrupt:
            say("stopped; what was measured follows")
    command = "python -m benchmarks.run " + shlex.join(sys.argv[1:] if argv is None else argv)
    page = report.markdown(about, bench.versions, bench.missing, results, command.strip())
    print(page)
    whole = not options.quick and len(chosen) == len(rows.ROWS) and len(results) >= len(chosen)
    if options.out or whole:
        out = options.out or RESULTS
        os.makedirs(out, exist_ok=True)
        path = os.path.join(out, machine.file_name(about, options.isa))
        with open(f"{path}.md", "w") as file:
            file.write(page)
        with open(f"{path}.json", "w") as file:
            json.dump({"about": about, "versions": bench.versions, "command": command, "rows": results}, file, indent=1)
        say(f"written: {path}.md and .json")
    return 0


def _parser():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=["*"], metavar="NAME", help="rows, or patterns of them (default: all)")
    parser.add_argument("--peers", nargs="+", default=["*"], metavar="NAME", help="engines beside ours, or patterns")
    parser.add_argument("--seconds", type=float, default=4, help="for each row and engine, with at least three turns "
                                                                 "(default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one turn each: to see that everything works")
    parser.add_argument("--threads", type=int, help="of every engine (default: all cores that the process may use)")
    parser.add_argument("--isa", choices=["avx2"], help="hold ours, and the engines that can be, to this vector unit")
    parser.add_argument("--folder", help="where nets and weights are written for the time of the run (about 3 GB)")
    parser.add_argument("--out", metavar="FOLDER", help="where the table goes (default: benchmarks/results, and only when all "
                                                        "rows were measured)")
    parser.add_argument("--list", action="store_true", help="only print the rows and the engines beside each")
    return parser


if __name__ == "__main__":
    sys.exit(main())
