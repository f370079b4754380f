"""What a measurement was made on: processor, threads, revision; and the environment that engines are started in."""

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
import sys

VARIABLES = ("DEEPJET_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
# What holds engines to AVX2: numba (ours), PyTorch, oneDNN (in PyTorch and OpenVINO), MKL, OpenBLAS, OpenCV.
AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+64bit,+cmov,+cx8,+fxsr,+mmx,+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+bmi,"
                          "+bmi2,+lzcnt,+movbe,+f16c",
    "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "DNNL_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell", "OPENCV_CPU_DISABLE": "AVX512_SKX,AVX512_COMMON,AVX512_CNL,AVX512_CLX,AVX512_ICL",
}
NOT_HELD = {  # engine -> why it cannot be measured under AVX2
    "onnxruntime": "asks the processor itself and has no switch that holds it to AVX2",
    "ncnn": "asks the processor itself and has no switch that holds it to AVX2",
    "openvino default": "chooses bfloat16 for the processor, which oneDNN has no kernels for when held to AVX2",
}


def threads():
    """Return the threads that every engine gets: DEEPJET_THREADS, or as many cores as the process may use."""
    return int(os.environ.get("DEEPJET_THREADS") or len(os.sched_getaffinity(0)))


def environment(count, isa=None):
    """Return the environment of an engine's process with `count` threads, held to AVX2 with isa "avx2"."""
    found = {**os.environ, **dict.fromkeys(VARIABLES, str(count)), "PYTHONUNBUFFERED": "1"}
    if isa == "avx2":
        found.update(AVX2)
    return found


def processor():
    """Return (the processor's name, the widest vector unit it has)."""
    name, flags = platform.processor() or platform.machine(), ""
    try:
        with open("/proc/cpuinfo") as file:
            lines = dict(line.split(":", 1) for line in file if ":" in line)
        fields = {key.strip(): value.strip() for key, value in lines.items()}
        name, flags = fields.get("model name", name), f" {fields.get('flags', '')} "
        if "family" in str(fields.keys()):
            name += f" (family {fields.get('cpu family')}, model {fields.get('model')})"
    except OSError:
        pass
    units = (("AVX-512 with bfloat16", " avx512_bf16 "), ("AVX-512", " avx512f "), ("AVX2", " avx2 "))
    return name, next((unit for unit, flag in units if flag in flags), platform.machine())


def revision():
    """Return git's revision, with "+" when files differ from it, or "unknown"."""
    try:
        out = [subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()
               for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])]
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return out[0] + ("+" if out[1] else "")


def describe(count, isa=None):
    """Return {what: text} of this machine and run."""
    name, unit = processor()
    packages = ", ".join(f"{one} {importlib.metadata.version(one)}" for one in ("numpy", "numba", "llvmlite"))
    return {"date": datetime.date.today().isoformat(), "processor": name, "cores": str(len(os.sched_getaffinity(0))),
            "vector unit": f"{unit}, held to AVX2" if isa else unit, "threads": str(count), "revision": revision(),
            "python": f"{sys.version.split()[0]}, {packages}", "system": f"{platform.system()} {platform.release()}"}


def file_name(about, isa=None):
    """Return a name for the table: date, processor, threads."""
    words = re.sub(r"[^a-z0-9]+", "-", about["processor"].lower()).strip("-")
    return f"{about['date']}-{words}-{about['threads']}-threads" + (f"-{isa}" if isa else "")
