"""A folder of photographs from end to end: decode, preprocess, forward, palette PNG, with the start of the process.

Ours is the command `solvers.infer`; beside it the same loop around onnxruntime: ``python -m benchmarks.folder MODEL IN OUT``.
"""

import os
import subprocess
import sys
import time

import numpy as np
from PIL import Image

from benchmarks import turns
from data import colors, pictures, transform

COUNT = 100
DIFFERENT = 1e-3  # of the pixels: scores of random weights may be as good as equal


class Failed(Exception):
    """A command failed, or its labels are others."""


def draw(folder, sizes):
    """Write COUNT JPEGs of the sizes (height, width) in turn: coloured clouds with some noise."""
    os.makedirs(folder, exist_ok=True)
    rng = np.random.default_rng(4)
    for number in range(COUNT):
        height, width = sizes[number % len(sizes)]
        clouds = Image.fromarray(rng.integers(0, 256, (9, 12, 3)).astype(np.uint8)).resize((width, height), Image.BICUBIC)
        noise = rng.normal(0, 12, (height, width, 3))
        Image.fromarray(np.clip(clouds + noise, 0, 255).astype(np.uint8)).save(f"{folder}/{number:03}.jpg", quality=90)


def compare(folder, prototxt, model, sizes, environment, rounds):
    """Run both commands in turn; return (`turns.Pair` of seconds for all images, share of the pixels that differ)."""
    photographs, onnx = os.path.join(folder, "photographs"), os.path.join(folder, "folder.onnx")
    draw(photographs, sizes)
    _run([sys.executable, "-m", "netspec.export_onnx", prototxt, model, onnx, "--free", "--output", "score"], environment)
    outs = [os.path.join(folder, name) for name in ("ours", "theirs")]
    commands = [[sys.executable, "-m", "solvers.infer", prototxt, model, photographs, "--no-overlay", "--out", outs[0]],
                [sys.executable, "-m", "benchmarks.folder", onnx, photographs, outs[1]]]
    times = [[_run(command, environment) for command in commands] for _ in range(rounds)]
    found = [[np.asarray(Image.open(os.path.join(out, f"{number:03}.png"))) for number in range(COUNT)] for out in outs]
    different = sum((a != b).sum() for a, b in zip(*found)) / sum(a.size for a in found[0])
    if different > DIFFERENT:
        raise Failed(f"{100 * different:.2f} % of the pixels have another class")
    return turns.Pair.of(times), float(different)


def _run(command, environment):
    """Run a command; return its seconds."""
    time.sleep(turns.PAUSE)
    begun = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(command[2:4])} fails: {(done.stderr.strip() or 'it says nothing').splitlines()[-1]}")
    return time.perf_counter() - begun


def main(model, source, target):
    """Segment the pictures of a folder with onnxruntime."""
    from benchmarks.engines.onnxruntime import session

    net = session(model)
    os.makedirs(target, exist_ok=True)
    for path in pictures.find_all([source]):
        image = transform.preprocess(pictures.read_photo(path))
        scores = net.run(["score"], {"data": image[None]})[0][0]
        name = os.path.splitext(os.path.basename(path))[0]
        colors.save_palette_png(os.path.join(target, f"{name}.png"), scores.argmax(0).astype(np.uint8))


if __name__ == "__main__":
    main(*sys.argv[1:])
