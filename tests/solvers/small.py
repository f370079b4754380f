"""A small net with data on disk, dropout and a frozen layer, for the tests of solvers."""

import h5py
import numpy as np

NET = """
name: "small"
layer { name: "in" type: "HDF5Data" top: "data" top: "label" hdf5_data_param { source: "list.txt" batch_size: 1 } }
layer { name: "frozen" type: "Convolution" bottom: "data" top: "frozen" param { lr_mult: 0 } param { lr_mult: 0 }
  convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "conv1" type: "Convolution" bottom: "frozen" top: "conv1"
  param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 5 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "drop1" type: "Dropout" bottom: "conv1" top: "conv1" }
layer { name: "score" type: "Convolution" bottom: "conv1" top: "score"
  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
  loss_param { ignore_label: 255 normalize: false } }
"""

SOLVER = """
net: "net.prototxt"
base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.001
max_iter: 20 display: 1 average_loss: 3 random_seed: 5 snapshot_prefix: "out/snap"
"""


def write(folder, net=NET, solver=SOLVER, images=7):
    """Write net.prototxt, solver.prototxt and data into `folder`; return the solver's path."""
    random = np.random.RandomState(3)
    with h5py.File(folder / "data.h5", "w") as file:
        file["data"] = random.randn(images, 3, 6, 5).astype(np.float32)
        label = random.randint(0, 4, (images, 1, 6, 5)).astype(np.float32)
        label[:, :, 0] = 255
        file["label"] = label
    (folder / "list.txt").write_text("data.h5\n")
    (folder / "net.prototxt").write_text(net)
    path = folder / "solver.prototxt"
    path.write_text(solver)
    return path
