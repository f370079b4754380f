"""An engine in a process of its own, told what to do a line of JSON at a time.

Two engines in one process share their OpenMP threads and their memory's history; in two processes they only share the machine,
and each one's largest resident memory can be read. The child answers each line on what was its stdout; whatever libraries
print goes to its stderr, which is a file.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

SHORT = 0.005  # seconds; what takes less is run several times on end for one measurement


class EngineError(Exception):
    """An engine cannot do a job: it is not installed, refuses the net or ended."""


class Engine:
    """The parent's side. Use it with `with`: the process ends with the block."""

    def __init__(self, name, folder, environment):
        self.name, self.folder = name, folder
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen([sys.executable, "-m", "benchmarks.process", name], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment)
        self.last = None  # seconds of the last call
        self.version = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def open(self, kind, settings):
        """Make a job; the one before is dropped. Returns the seconds it took."""
        self.version, seconds = self._ask(do="open", kind=kind, settings=settings)
        self.last = None
        return seconds

    def check(self):
        """Return {name: array} of what must be equal."""
        path = os.path.join(self.folder, f"{self.name}.npz")
        self._ask(do="check", path=path)
        with np.load(path) as arrays:
            found = dict(arrays)
        os.remove(path)
        return found

    def time(self, number, before=None):
        """Run on input `number`, after an unmeasured call on input `before`; return seconds of the clock."""
        self.last = self._ask(do="time", number=number, before=before)
        return self.last

    def peak(self):
        """Return the process' largest resident memory since the job was made, in GiB."""
        return self._ask(do="peak")

    def _ask(self, **order):
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            self.process.wait()
            raise EngineError(f"{self.name} ended (exit code {self.process.returncode}): {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise EngineError(answer["error"])
        return answer["result"]

    def _last_words(self):
        self.log.seek(0)
        lines = [line.strip() for line in self.log if line.strip()]
        return lines[-1] if lines else "it said nothing"


# --- the child's side ------------------------------------------------------------------------------------------------------


class Worker:
    """Does what it is told."""

    def __init__(self, name):
        self.name, self.job = name, None

    def open(self, kind, settings):
        from benchmarks import engines

        self.job = None
        try:
            module = engines.module(self.name)
        except ImportError as error:
            raise EngineError(f"{self.name} is not here ({error}): {_needs(self.name)}") from None
        if kind not in module.JOBS:
            raise EngineError(f"{self.name} has no '{kind}'")
        begun = time.perf_counter()
        self.job = module.JOBS[kind](settings, **engines.ENGINES[self.name].options)
        seconds = time.perf_counter() - begun
        _forget_peak()
        return module.version(), seconds

    def check(self, path):
        np.savez(path, **self.job.check())

    def time(self, number, before):
        if before is not None:
            self.job.run(before)
        seconds = self._clock(number, 1)
        return seconds if seconds > SHORT else self._clock(number, int(2 * SHORT / max(seconds, 1e-7)) + 1)

    def _clock(self, number, calls):
        begun = time.perf_counter()
        for _ in range(calls):
            self.job.run(number)
        return (time.perf_counter() - begun) / calls

    def peak(self):
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) / 2**20 for line in file if line.startswith("VmHWM"))


def _needs(name):
    """Return what an engine's file says to install, without importing it."""
    import ast

    from benchmarks import engines

    path = os.path.join(os.path.dirname(engines.__file__), f"{engines.ENGINES[name].file}.py")
    with open(path) as file:
        for node in ast.parse(file.read()).body:
            if isinstance(node, ast.Assign) and node.targets[0].id == "NEEDS":
                return ast.literal_eval(node.value)
    return "see its file"


def _forget_peak():
    """Let the peak begin at what is resident now (Linux; elsewhere it is that of the whole process)."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def main():
    """Answer orders until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = {"result": getattr(worker, order.pop("do"))(**order)}
        except Exception as error:  # whatever an engine raises is told, and the next row goes on
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                      if not isinstance(error, EngineError) else str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
