"""deepjet: `pip install -e .` and Caffe's nets run."""

import pathlib

from setuptools import find_namespace_packages, setup

CUDA13 = ["numba-cuda[cu13]==0.30.4", "cuda-toolkit==13.0.*", "nvidia-nvjitlink==13.0.*"]

# plyvel is there ready-made for Python 3.11 and 3.12 only.
LMDB, LEVELDB = ["lmdb>=1.4"], ["plyvel>=1.5.1; python_version < '3.13'"]

setup(
    name="deepjet",
    version="0.1.0",
    description="Caffe's Fully Convolutional Networks in pure Python: reads and writes Caffe's files, trains them as Caffe did",
    long_description=pathlib.Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-2-Clause",
    python_requires=">=3.11",
    packages=find_namespace_packages(include=["netspec*", "layers*", "solvers*", "models*", "data*", "caffe*"]),
    package_data={"netspec": ["*.proto"], "models": ["*/*.prototxt"]},
    install_requires=[
        "numpy>=1.26",
        "protobuf>=4.25",
        "pillow>=10",
        "scipy>=1.11",
        "h5py>=3.9",
        "numba>=0.59",
        "tqdm>=4.60",
    ],
    extras_require={
        # Kernels for NVIDIA cards. Drivers from 580 on take the PTX of CUDA 13.0; what later compilers write they refuse.
        "cuda": CUDA13,
        # Drivers from 550 on, which take the PTX of CUDA 12.4.
        "cuda12": ["numba-cuda[cu12]==0.30.4", "cuda-toolkit==12.4.*", "nvidia-nvjitlink-cu12==12.4.*"],
        # With NVIDIA's assembler, which tells of registers and spills without a card.
        "cuda-test": [*CUDA13, "nvidia-cuda-nvcc==13.0.*"],
        # OpenCV 5 dropped Caffe's importer; 4 is the second opinion on our files.
        # Databases and OpenCV's bits are held against their own libraries.
        "test": ["pytest>=8", "pytest-xdist>=3.5", "ruff>=0.6", "opencv-python-headless>=4.9,<5", "onnx", "onnxruntime", *LMDB,
                 *LEVELDB],
        # Writing LMDB databases (they are read without it), reading and writing LevelDB's.
        "lmdb": LMDB,
        "leveldb": LEVELDB,
        # The engines that `make bench` holds ours against.
        "bench": ["ncnn", "openvino", "onnxruntime", "onnx", "opencv-python-headless>=4.9,<5", "torch"],
        "proto": ["grpcio-tools"],
    },
)
