"""The paper's validation set: what VOC 2011's segmentation ``val`` holds and SBD's ``train`` does not, 736 pictures.

    python -m data.seg11valid data/pascal/VOC2011 data/sbdd/dataset

The nets are trained on SBD, which labels pictures of VOC's ``val`` too (the paper's footnote 5). The list goes to
ImageSets/Segmentation/seg11valid.txt of the VOC folder, where data layers look for it; one that is there is compared with
what would be written and never changed.
"""

import argparse
import os
import sys

from data.voc import SBD, VOC
from netspec import files
from netspec.errors import Error, run_door

PAPER = 736


def main(argv=None):
    """Write the list."""
    options = _parser().parse_args(argv)
    voc = VOC(options.voc, "val", complete=False)
    sbd = SBD(options.sbd, "train", complete=False)
    if len(voc.ids) in VOC.splits["val"][1:] and not options.out:
        raise Error(f"'{voc.list_path()}' has {len(voc.ids)} ids: that is VOC 2012's val, and the paper's list comes from VOC "
                    "2011's; give that year's folder, or name the list that is to be written with -o")
    found = difference(voc.ids, sbd.ids)
    print(f"{len(voc.ids)} ids in '{voc.list_path()}', {len(sbd.ids)} in '{sbd.list_path()}': {len(found)} of the first are "
          "not in the second", file=sys.stderr)
    if len(found) != PAPER:
        print(f"warning: the paper's list has {PAPER}; it comes from VOC 2011 (val of {VOC.splits['val'][0]} pictures) and SBD "
              f"(train of {SBD.splits['train'][0]})", file=sys.stderr)
    path = options.out or os.path.join(voc.folder, "ImageSets", "Segmentation", "seg11valid.txt")
    if os.path.exists(path):
        there = files.read_text(path).split()
        print(path)
        print(f"it is there already, {compare(there, found)}", file=sys.stderr)
        return int(set(there) != set(found))
    files.write_text(path, "".join(f"{name}\n" for name in found))
    print(path)
    return 0


def difference(val, train):
    """Return the ids of `val` that are not in `train`, in the order of `val`."""
    trained = set(train)
    return [name for name in val if name not in trained]


def compare(there, found):
    """Return in words how the list `there` stands to the ids `found`."""
    missing, more = sorted(set(found) - set(there)), sorted(set(there) - set(found))
    if not missing and not more:
        return f"with the same {len(found)} ids"
    said = [f"{len(ids)} ids {what} (such as {ids[0]})" for ids, what in ((missing, "fewer"), (more, "more")) if ids]
    return f"with {' and '.join(said)} than the two lists give; it was left as it is"


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m data.seg11valid", description="Write the list of the paper's validation set, seg11valid.txt.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m data.seg11valid data/pascal/VOC2011 data/sbdd/dataset")
    parser.add_argument("voc", metavar="VOC", help="folder of VOC 2011 (with ImageSets/Segmentation/val.txt)")
    parser.add_argument("sbd", metavar="SBD", help="folder of SBD (with train.txt)")
    parser.add_argument("-o", "--out", metavar="FILE", help="another file than that in the VOC folder")
    return parser


if __name__ == "__main__":
    sys.exit(run_door(main))
