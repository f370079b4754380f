"""How long a 500x500 image takes here (Table 1, Table 4, section 4.4), 20 trials as in the paper."""

import time

import numpy as np

from models import families
from models.datasets import VOC
from netspec import caffe_pb2
from netspec.measure import measure

from paper import nets
from paper.experiment import Row

TITLE = "Time of inference"
PLACE = "Table 1"
MINUTES = 1
NEEDS = ()
DEPENDS = ("paper/nets.py",)
SIZE, TRIALS = 500, 20
PAPER = {"FCN-AlexNet": 16, "FCN-GoogLeNet": 20, "FCN-VGG16": 100}  # ms on a Titan X
