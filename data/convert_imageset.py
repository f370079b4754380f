"""Write the pictures of a list into a database that Data layers read, as Caffe's tool of this name does.

    python -m data.convert_imageset images/ train.txt train_lmdb -resize_height 256 -resize_width 256 -shuffle

A line of the list is ``path label``; keys are ``00000000_path``, numbered in the order in which they are written. What cannot
be read ends the command, and nothing is left behind; Caffe goes on without a word, which ``-skip_unreadable`` asks for (each
picture that is left out is named). An existing database is not touched.
"""

import argparse
import os
import random
import sys

from data import database, datum, flags
from data.decode import decode
from data.lists import ImageList
from data.resize import resize
from netspec import files
from netspec.errors import Error, UnknownName, run_door

SWITCHES = ("gray", "shuffle", "check_size", "encoded", "skip_unreadable")
SAID = 1000  # pictures from one line of the log to the next


def main(argv=None):
    """Convert."""
    options = _parser().parse_args(flags.written_out(sys.argv[1:] if argv is None else argv, SWITCHES))
    database.check(options.backend)
    if bool(options.resize_height) != bool(options.resize_width) or min(options.resize_height, options.resize_width) < 0:
        raise UnknownName(f"-resize_height is {options.resize_height} and -resize_width {options.resize_width}; give both or "
                          "none")
    listed = ImageList(files.find(options.list, what="list"))
    order = list(range(len(listed)))
    if options.shuffle:
        random.Random(options.seed).shuffle(order)
    encode = options.encoded or bool(options.encode_type)
    if options.encode_type:
        datum.kind_of(options.encode_type)
    print(f"A total of {len(listed)} images.", file=sys.stderr)
    done, skipped, first = 0, 0, None
    with database.create(options.database, options.backend) as new:
        for number, index in enumerate(order):
            name, label, line = listed.entries[index]
            try:
                record, shape = _convert(listed, index, options, encode)
            except Error as error:
                if not options.skip_unreadable:
                    raise
                skipped += 1
                print(f"left out: {error}", file=sys.stderr)
                continue
            if options.check_size:
                first = first or (shape, f"{listed.path}:{line}")
                if shape != first[0]:
                    raise Error(f"{listed.path}:{line}: '{name}' has {_size(shape)}, that of {first[1]} {_size(first[0])}; "
                                "resize them, or leave -check_size away")
            new.put(f"{number:08d}_{name}".encode(), record.SerializeToString())
            done += 1
            if done % SAID == 0:
                print(f"Processed {done} files.", file=sys.stderr)
        if not done:
            raise Error("no picture could be read: there is no database")
    print(f"Processed {done} files." + (f" {skipped} were left out." if skipped else ""), file=sys.stderr)
    print(options.database)
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m data.convert_imageset", description="Write the pictures of a list into an LMDB or LevelDB database.",
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        epilog="examples:\n"
               "  python -m data.convert_imageset images/ train.txt train_lmdb -resize_height 256 -resize_width 256 -shuffle\n"
               "  python -m data.convert_imageset -encoded -encode_type=jpg -backend=leveldb / list.txt train_leveldb")
    parser.add_argument("root", metavar="ROOTFOLDER/", help="put before each path of the list")
    parser.add_argument("list", metavar="LISTFILE", help="a path, a space and an integer label a line")
    parser.add_argument("database", metavar="DB_NAME", help="the folder to write; it must not be there yet")
    flags.add_switch(parser, "gray", "one channel instead of three")
    flags.add_switch(parser, "shuffle", "write in random order")
    flags.add_value(parser, "backend", "lmdb or leveldb (default: %(default)s)", default="lmdb")
    flags.add_value(parser, "resize_width", "pixels", type=int, default=0, metavar="W")
    flags.add_value(parser, "resize_height", "pixels", type=int, default=0, metavar="H")
    flags.add_switch(parser, "check_size", "end at a picture of another size than the first")
    flags.add_switch(parser, "encoded", "write picture files instead of pixels")
    flags.add_value(parser, "encode_type", "jpg, png, ...: of the files that -encoded writes (default: each one's own)",
                    default="", metavar="KIND")
    flags.add_value(parser, "seed", "of -shuffle (default: %(default)s)", type=int, default=1337, metavar="N")
    flags.add_switch(parser, "skip_unreadable", "leave out pictures that are missing or damaged, and name them")
    return parser


def _convert(listed, index, options, encode):
    """Return (Datum, (channels, height, width)) of an entry of the list."""
    name, label, _ = listed.entries[index]
    root = options.root
    path, what = listed.find(index, root if os.path.exists(root + name) else os.path.join(root, ""))
    picture = decode(path, not options.gray, what=what)
    if options.resize_height:
        picture = resize(picture, options.resize_height, options.resize_width)
    channels_first = picture.transpose(2, 0, 1)
    if not encode:
        return datum.make(channels_first, label), channels_first.shape
    own = os.path.splitext(name)[1].lstrip(".").lower()
    kind = (options.encode_type or own).lower().lstrip(".")
    if not kind:
        raise Error(f"{what} '{path}' has no ending that tells how to encode it; give -encode_type")
    # A file that is of this kind goes in as it is.
    if own and not options.resize_height and not options.gray and datum.kind_of(kind) == datum.kind_of(own):
        return datum.packed(files.read_bytes(path), label), channels_first.shape
    return datum.encode(picture, kind, label), channels_first.shape


def _size(shape):
    return f"{shape[0]} channels of {shape[1]}x{shape[2]} (height x width)"


if __name__ == "__main__":
    sys.exit(run_door(main))
