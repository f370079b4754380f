"""Say of a data set what is there, what is missing and from where it comes, and read every picture and label.

    python -m data.check voc --folder data/pascal/VOC2011

Exit code 0: all there and all good. 1: something is missing or wrong; every line that says so begins with ``missing`` or
``wrong``.
"""

import argparse
import os
import sys

import numpy as np
import tqdm

from data.colors import IGNORE
from data.dataset import dataset_kinds
from netspec import files
from netspec.errors import Error, PathError, UnknownName, nearest, run_door

SHOWN = 10  # of a kind of complaint; the rest is counted


def main(argv=None):
    """Check one data set, or list them all."""
    options = _parser().parse_args(argv)
    kinds = dataset_kinds()
    if options.name is None:
        _print_sets(kinds)
        return 0
    if options.name not in kinds:
        raise UnknownName(f"unknown data set '{options.name}'{nearest(options.name, kinds)}; "
                          f"data sets: {', '.join(sorted(kinds))}")
    kind, report = kinds[options.name], Report()
    splits = _open_splits(kind, _folders(kind, options.folder), options.split, report)
    if splits:
        _look_for_files(kind, splits, report)
        if not options.lists:
            _read_all(kind, splits, report)
    report.close()
    print(f"\n{kind.title}: {f'complaints: {report.complaints}' if report.complaints else 'nothing missing, nothing wrong'}"
          f"{', but nothing was read (--lists)' if options.lists else ''}")
    return int(report.complaints > 0)


class Report:
    """Prints complaints and counts them; of each kind only the first few are printed."""

    def __init__(self):
        self.counts = {}

    @property
    def complaints(self):
        """How many there are."""
        return sum(self.counts.values())

    def complain(self, what, text):
        """Count a complaint and print it; `what` is "missing" or "wrong"."""
        self.counts[what] = self.counts.get(what, 0) + 1
        if self.counts[what] <= SHOWN:
            tqdm.tqdm.write(f"{what:8} {text}")

    def close(self):
        """Say how many were not printed."""
        for what, count in self.counts.items():
            if count > SHOWN:
                print(f"{what:8} ... and {count - SHOWN} more")


class Labels:
    """What the label maps of one part hold together."""

    def __init__(self, names):
        self.names = names
        self.pixels = np.zeros(256, np.int64)
        self.images = np.zeros(256, np.int64)
        self.count = 0

    def add(self, label):
        """Count one (H, W) uint8 label map."""
        found = np.bincount(label.reshape(-1), minlength=256)
        self.pixels += found
        self.images += found > 0
        self.count += 1

    def print(self, part):
        """Print a row for each class, and the share of ignored pixels."""
        total, counted = int(self.pixels.sum()), int(self.pixels[:IGNORE].sum())
        width = max(map(len, [*self.names, "class"]))
        print(f"\n{part}: {self.count} label maps, {total} pixels")
        print(f"{'class':{width}}  {'pixels':>12}  {'share':>7}  {'images':>6}")
        for number, name in enumerate(self.names):
            print(f"{name:{width}}  {self.pixels[number]:12d}  {self.pixels[number] / max(counted, 1):7.2%}  "
                  f"{self.images[number]:6d}{'' if self.pixels[number] else '  absent'}")
        print(f"ignored (255): {self.pixels[IGNORE]} pixels, {self.pixels[IGNORE] / max(total, 1):.2%} of all")


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m data.check", description="Say what of a data set is there, what is missing and from where it comes; "
        "read every picture and label.", formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m data.check                     all data sets and where they are looked for\n"
               "  python -m data.check voc --folder /data/VOCdevkit/VOC2011\n"
               "  python -m data.check pascalcontext --folder voc_dir=/data/VOCdevkit --folder context_dir=/data/context")
    parser.add_argument("name", metavar="NAME", nargs="?", help="data set (without it: list them)")
    parser.add_argument("--folder", metavar="[KEY=]FOLDER", action="append", default=[],
                        help="where it is, instead of where the published nets expect it; may be repeated")
    parser.add_argument("--split", metavar="S", action="append", help="only this list; may be repeated")
    parser.add_argument("--lists", action="store_true", help="only look whether the files are there, do not read them")
    return parser


def _print_sets(kinds):
    for name, kind in sorted(kinds.items()):
        for key, folder in kind.folders.items():
            try:
                place = f"found at {files.find(folder)}"
            except PathError:
                place = f"not at {folder}"
            print(f"{name:14} {key:12} {place}")
        print(f"{'':14} {kind.title}, lists {', '.join(kind.splits)}; from {kind.source}\n")


def _folders(kind, settings):
    # {key of a param_str: folder}
    found = dict(kind.folders)
    first = next(iter(found))
    for setting in settings:
        key, equals, folder = setting.partition("=")
        if not equals or os.path.exists(setting):
            key, folder = first, setting
        if key not in found:
            raise UnknownName(f"--folder: {kind.title} has no folder '{key}'{nearest(key, found)}; "
                              f"folders: {', '.join(found)}")
        found[key] = folder
    return found


def _open_splits(kind, folders, wanted, report):
    # {split: data set} of the lists that are there; what is missing is said.
    for key, folder in folders.items():
        try:
            files.find(folder, what=key)
        except PathError as error:
            report.complain("missing", f"{error}; get it from {kind.source}, and say with --folder {key}=FOLDER where it is")
    found, said = {}, set()
    if report.complaints:
        return found
    for split in wanted or kind.splits:
        try:
            found[split] = kind.open_for_check(folders, split)
        except Error as error:
            text = str(error)
            list_missing = f"split '{split}' has no list" in text
            if list_missing and not wanted and split not in kind.needed:
                print(f"{'':8} no list '{split}' (the published nets do not need it)")
            elif text not in said:  # a missing folder is missing for every split
                report.complain("missing" if isinstance(error, PathError) else "wrong", text)
            said.add(text)
    if found:
        print("\n".join(f"{key:8} {folder}" for key, folder in next(iter(found.values())).places().items()))
    for split, dataset in found.items():
        known = kind.splits.get(split, ())
        print(f"{split:10} {len(dataset):6d} ids"
              + (f" (the published list: {' or '.join(map(str, known))})" if known and len(dataset) not in known else ""))
        twice = len(dataset) - len(set(dataset.ids))
        if twice:
            report.complain("wrong", f"'{dataset.list_path()}' names {twice} ids more than once, such as "
                            f"{next(name for name in dataset.ids if dataset.ids.count(name) > 1)}")
    return found


def _samples(splits):
    # {id: a data set that has it}, each id once.
    found = {}
    for dataset in splits.values():
        for name in dataset.ids:
            found.setdefault(name, dataset)
    return found


def _look_for_files(kind, splits, report):
    # Says of each part how many files are missing, once for an id in several lists.
    missing = {}
    for dataset in splits.values():
        for part, paths in dataset.missing().items():
            missing.setdefault(part, {}).update(dict.fromkeys(paths))
    for part, paths in missing.items():
        report.complain("missing", f"{part}: {len(paths)} of {len(_samples(splits))} files, the first is '{next(iter(paths))}'; "
                        f"{kind.part_cures.get(part) or f'get them from {kind.source}'}")


def _read_all(kind, splits, report):
    first = next(iter(splits.values()))
    labels = {part: Labels(first.classes_of(part)) for part in kind.label_parts}
    sizes = {}
    samples = _samples(splits)
    with tqdm.tqdm(samples.items(), f"read {kind.title}", unit="sample", disable=not sys.stderr.isatty()) as bar:
        for name, dataset in bar:
            shapes = {}
            for part in kind.parts:
                if not os.path.isfile(dataset.path(part, name)):
                    continue
                try:
                    array = dataset.read(part, name)
                except Error as error:
                    report.complain("wrong", str(error))
                    continue
                shapes[part] = array.shape[:2]
                if part in labels:
                    labels[part].add(array)
            if len(set(shapes.values())) > 1:
                report.complain("wrong", f"the parts of '{name}' differ in size (height x width): "
                                + ", ".join(f"{part} {h}x{w}" for part, (h, w) in shapes.items()))
            for shape in list(shapes.values())[:1]:
                sizes[shape] = sizes.get(shape, 0) + 1
    if sizes:
        heights, widths = zip(*sizes)
        most = max(sizes, key=sizes.get)
        print(f"\n{sum(sizes.values())} samples of {len(sizes)} sizes: {min(heights)} to {max(heights)} high, {min(widths)} to "
              f"{max(widths)} wide, most often {most[0]}x{most[1]} (height x width)")
    for part, counts in labels.items():
        counts.print(part)


if __name__ == "__main__":
    sys.exit(run_door(main))
