"""deepjet: `pip install -e .` and Caffe's nets run."""

import pathlib

from setuptools import find_namespace_packages, setup

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
        # OpenCV 5 dropped Caffe's importer; 4 is the second opinion on our files.
        "test": ["pytest>=8", "ruff>=0.6", "opencv-python-headless>=4.9,<5"],
        # The engines that `make bench` holds ours against.
        "bench": ["ncnn", "openvino", "onnxruntime", "onnx", "opencv-python-headless>=4.9,<5", "torch"],
        "proto": ["grpcio-tools"],
    },
)
