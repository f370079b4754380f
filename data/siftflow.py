"""SIFT Flow: 33 semantic and 3 geometric classes, under the layer names of the published prototxts (``siftflow_layers``).

The published nets train on 2,486 pictures (``trainval``) and are scored on 200 (``test``). Three classes, cow, desert and
moon, are not in the test set: scores leave out what the truth does not hold (the paper's footnote 6).

``<siftflow_dir>``: <split>.txt, and in the folders below, each in ``spatial_envelope_256x256_static_8outdoorcategories``,
Images/ID.jpg, SemanticLabels/ID.mat (matrix ``S``: 0 is void, 1 to 33 the classes), GeoLabels/ID.mat (``S``: -1 or 0 is void,
1 to 3 the classes).
"""

import functools
import os

import numpy as np

from data import labels, pictures, transform
from data.dataset import Dataset
from data.mat import read_matrix
from data.segmentation import SegmentationDataLayer
from netspec.errors import PathError

SEMANTIC = ["awning", "balcony", "bird", "boat", "bridge", "building", "bus", "car", "cow", "crosswalk", "desert", "door",
            "fence", "field", "grass", "moon", "mountain", "person", "plant", "pole", "river", "road", "rock", "sand", "sea",
            "sidewalk", "sign", "sky", "staircase", "streetlight", "sun", "tree", "window"]
GEOMETRIC = ["sky", "horizontal", "vertical"]
BELOW = "spatial_envelope_256x256_static_8outdoorcategories"
FOLDERS = {"data": "Images", "sem": "SemanticLabels", "geo": "GeoLabels"}
VOID = {"sem": (0,), "geo": (-1, 0)}
MEAN = (114.578, 115.294, 108.353)  # BGR


class SIFTFlow(Dataset):
    """SIFT Flow: `folder` is the folder `SiftFlowDataset` of the archive; its two label maps are of one size."""

    title = "SIFT Flow"
    source = "http://www.cs.unc.edu/~jtighe/Papers/ECCV10/siftflow/SiftFlowDataset.zip"
    cure = "name another folder with --data siftflow_dir=FOLDER"
    folders = {"siftflow_dir": "data/sift-flow"}
    splits = {"trainval": (2486,), "test": (200,)}
    needed = ("trainval", "test")
    default_classes = 33
    default_names = SEMANTIC
    names_in_folder = False  # the published classes.txt holds remarks and both lists
    parts = ("data", "sem", "geo")
    label_parts = ("sem", "geo")
    score_exclude = "absent"

    @classmethod
    def find_folder(cls, folder, beside=None):
        """Return the folder that holds Images/."""
        found = super().find_folder(folder, beside)
        if not os.path.isdir(os.path.join(found, "Images")):
            below = os.path.join(found, "SiftFlowDataset")
            hint = f"; did you mean '{below}'?" if os.path.isdir(os.path.join(below, "Images")) else f"; get it from {cls.source}"
            raise PathError(f"'{found}' is not a {cls.title} folder: it holds no Images/{hint}")
        return found

    def list_path(self):
        """Return <split>.txt."""
        return os.path.join(self.folder, f"{self.split}.txt")

    def list_hint(self):
        """Say that the lists are not in the archive."""
        return ("; the lists are not in the archive: copy trainval.txt and test.txt from the published FCN repository "
                "(data/sift-flow), they leave out two pictures without labels")

    def path(self, part, name):
        """Return Images/.../<name>.jpg and its like."""
        return os.path.join(self.folder, FOLDERS[part], BELOW, f"{name}.{'jpg' if part == 'data' else 'mat'}")

    def image_path(self, name):
        """Return the picture's path."""
        return self.path("data", name)

    def label_path(self, name):
        """Return the semantic label's path."""
        return self.path("sem", name)

    def classes_of(self, part):
        """Return the names of the semantic or the geometric classes."""
        return GEOMETRIC if part == "geo" else self.names

    def read(self, part, which):
        """Return a part of a sample: a picture, or a label map, 0 to the number of its classes less 1 and 255."""
        path = self.path(part, self.name(which))
        if part == "data":
            return pictures.read_image(path)
        return labels.from_one(read_matrix(path, "S"), len(self.classes_of(part)), path, VOID[part])

    def label(self, which):
        """Return the semantic label map."""
        return self.read("sem", which)


class SIFTFlowSegDataLayer(SegmentationDataLayer):
    """SIFT Flow's samples; keys siftflow_dir, split, randomize, seed (see `SegmentationDataLayer`).

    Tops: data (1, 3, H, W) BGR minus mean, sem (1, 1, H, W) 0 to 32, geo (1, 1, H, W) 0 to 2, both 255 where void.
    """

    dataset_class = SIFTFlow
    folder_key = "siftflow_dir"
    default_mean = MEAN
    has_background = False

    def prepare(self):
        """Return how the picture is prepared. The published layer subtracts a float32 mean."""
        return {"data": functools.partial(transform.preprocess, mean=np.float32(self.params["mean"]))}


DATASETS = {"siftflow": SIFTFlow}
