"""Hold every blob of a net against what another engine computed from the same weights and input.

    python -m solvers.compare deploy.prototxt weights.caffemodel --against dump.npz
    python -m solvers.compare deploy.prototxt weights.caffemodel --against opencv --input photo.jpg
    python -m solvers.compare deploy.prototxt weights.caffemodel --dump ours.npz

A dump is an .npz or .h5 file with an array a blob, under the blob's name (or ``blob/<name>``); ``full/<name>`` says
the same, and a large blob may be sampled: ``index/<name>`` (flat) and ``sample/<name>``, with ``moments/<name>`` (mean
and standard deviation). The net's inputs are taken from it where they are in it. Blobs are compared in the order in
which the net makes them, so the first one that departs names the layer where the engines differ. As everywhere in
Caffe, a blob that layers change in place holds what the last of them wrote.
"""

import argparse
import collections
import os
import sys
import tempfile
import zipfile

import h5py
import numpy as np

from data import transform
from netspec import caffe_pb2, files, hdf5, text
from netspec.errors import Error, PathError, UnknownName, nearest, run_door
from solvers import nets, pictures

Difference = collections.namedtuple("Difference", "blob shape absolute relative largest note layers departs")
Difference.__doc__ = """One blob's difference: largest absolute one, the same relative to the largest absolute reference
value (`largest`), a note, the layers that write the blob, and whether it departs beyond the tolerance."""


def main(argv=None):
    """Compare or dump."""
    options = _parser().parse_args(argv)
    if not options.against and not options.dump:
        raise UnknownName("nothing to do: give --against DUMP.npz|DUMP.h5|opencv or --dump FILE")
    if not 0 <= options.tolerance < float("inf"):
        raise UnknownName(f"--tolerance must be 0 or more, got {options.tolerance}")
    phase = caffe_pb2.Phase.Value(options.phase.upper())
    path = nets.find(options.net, ("deploy", "val", "test"))
    weights = files.find(options.weights, what="weights")
    reference = None
    if options.against and options.against != "opencv":
        reference = Dump(files.find(options.against, what="dump"))
    given, picture = reference, {}
    if _is_dump(options.input):
        given = Dump(files.find(options.input, what="input"))
    message = _with_inputs(nets.read(path, phase), given, nets.input_shapes(options.shape))
    if options.input and given is reference:
        message, picture = _picture(message, options, path)
    if options.against == "opencv":
        message = nets.without_judges(message)
    net = nets.open_net(message, path, phase, weights)
    if options.end and options.end not in net.layer_names:
        raise UnknownName(f"net '{path}' has no layer '{options.end}'{nearest(options.end, net.layer_names)}; "
                          f"layers: {', '.join(net.layer_names)}")
    if options.input and not picture and not any(name in given.names for name in net.inputs):
        raise Error(f"'{options.input}' holds none of the net's inputs ({', '.join(net.inputs)}); "
                    f"it holds {', '.join(given.names[:6]) or 'nothing'}")
    end = net.layer_names.index(options.end) if options.end else len(net.layers) - 1
    said = feed(net, given, picture, options.seed)
    print(f"net       {path}\nweights   {weights}\ninput     {said}")
    net.forward(end=end)
    made = made_by(net, end)
    if options.against == "opencv":
        reference = opencv_blobs(message, net, made)
    if options.dump:
        write_dump(options.dump, {name: net.blobs[name].data for name in made})
        print(f"wrote     {options.dump}: {len(made)} blobs")
    if reference is None:
        return 0
    print(f"against   {options.against}, tolerance {options.tolerance:g} of the largest reference value\n")
    return _report(compare(net, reference, made, options.tolerance), reference, net, options)


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m solvers.compare", description="Compare a net's blobs with another engine's, one by one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n"
               "  python -m solvers.compare deploy.prototxt weights.caffemodel --against caffe_blobs.npz\n"
               "  python -m solvers.compare deploy.prototxt weights.caffemodel --against opencv --input photo.jpg\n"
               "  python -m solvers.compare deploy.prototxt weights.caffemodel --dump ours.npz\n"
               "exit code: 0 when all blobs agree, 1 when one departs")
    parser.add_argument("net", metavar="NET", help="prototxt, or a model's name")
    parser.add_argument("weights", metavar="WEIGHTS", help="caffemodel or HDF5")
    parser.add_argument("--against", metavar="DUMP", help="an .npz or .h5 file, or the word opencv (OpenCV 4 computes)")
    parser.add_argument("--dump", metavar="FILE", help="write our blobs, inputs included, to an .npz or .h5 file")
    parser.add_argument("--input", metavar="FILE", help="a picture, or an .npz or .h5 file with the input blobs "
                                                        "(default: those in the dump, else seeded random numbers)")
    parser.add_argument("--shape", metavar="NAME=SHAPE", action="append",
                        help="of an input that comes from nowhere else, such as data=1,3,500,500; may be repeated")
    parser.add_argument("--mean", metavar="B,G,R", help="subtracted from a picture (default: that of a data layer in a "
                                                       "prototxt beside NET, else PASCAL VOC's)")
    parser.add_argument("--tolerance", type=float, default=1e-4, metavar="T",
                        help="largest difference allowed, relative to a blob's largest value (default: %(default)s)")
    parser.add_argument("--phase", default="TEST", choices=["TRAIN", "TEST"], type=str.upper,
                        help="(default: %(default)s)")
    parser.add_argument("--end", metavar="LAYER", help="stop after this layer")
    parser.add_argument("--seed", type=int, default=1337, metavar="N", help="of random inputs (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="also list the blobs that nothing is known of")
    return parser


# --- comparing -------------------------------------------------------------------------------------------------------


def compare(net, reference, names, tolerance=1e-4):
    """Return a `Difference` for each blob of `names` that `reference` knows, in that order.

    `net` has run. `names` maps blob names to the layers that write them, as `made_by` returns; `reference` is a `Dump`
    or a dict of arrays.
    """
    reference = reference if isinstance(reference, Dump) else Dump.of(reference)
    return [reference.difference(name, net.blobs[name].data, list(names[name]), tolerance)
            for name in names if name in reference.names]


def made_by(net, end=None):
    """Return {blob: [layers that write it, in order]} of the layers up to number `end`, in running order."""
    made = collections.OrderedDict()
    for number, (name, layer) in enumerate(zip(net.layer_names, net.layers)):
        if end is not None and number > end:
            break
        for top in layer.param.top:
            made.setdefault(top, []).append(name)
    return made


def _largest(values):
    return float(np.abs(values).max()) if values.size else 0.0


def _deviation(ours, theirs):
    # The largest |ours - theirs|; equal infinities and NaNs in the same places are equal, others infinitely apart.
    ours, theirs = np.asarray(ours, np.float64).reshape(-1), np.asarray(theirs, np.float64).reshape(-1)
    odd = ~(np.isfinite(ours) & np.isfinite(theirs))
    if not odd.any():
        return _largest(ours - theirs)
    if not np.array_equal(ours[odd], theirs[odd], equal_nan=True):
        return float("inf")
    return _largest(ours[~odd] - theirs[~odd])


class Dump:
    """The blobs that an engine wrote to a file; arrays are read when they are compared.

    `names` lists the blobs that it knows something of.
    """

    def __init__(self, path):
        self.path = path
        if not os.path.isfile(path):
            raise PathError(f"dump '{path}' is not a file")
        self._arrays, self._get = (self._open_hdf5 if hdf5.is_hdf5(path) else self._open_npz)(path)
        self._sort()

    @classmethod
    def of(cls, arrays):
        """Return the dump that holds `arrays` (name -> array)."""
        dump = cls.__new__(cls)
        dump.path, dump._arrays, dump._get = "memory", arrays, arrays.__getitem__
        dump._sort()
        return dump

    def _open_npz(self, path):
        try:
            archive = np.load(path, allow_pickle=False)
            names = list(archive.files)
        except Exception as error:  # zipfile raises NotImplementedError, struct.error and more on damaged files
            if isinstance(error, MemoryError) or getattr(error, "errno", None):
                raise
            raise Error(f"'{path}' is neither an .npz nor an HDF5 file, or it is damaged") from None
        return names, archive.__getitem__

    def _open_hdf5(self, path):
        file = hdf5.open_file(path)
        with hdf5.errors_of(path):
            found = {}
            file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)

        def get(name):
            dataset = found[name]
            stored = dataset.id.get_storage_size()
            if dataset.size and dataset.size * dataset.dtype.itemsize > hdf5.DENSEST * stored:
                raise Error(f"shape {list(dataset.shape)}, but {stored} bytes are stored")
            return dataset[()]

        return found, get

    def _sort(self):
        # {blob: {"full" | "index" | "sample" | "moments": key}}
        self._known = collections.OrderedDict()
        for key in self._arrays:
            kind, slash, rest = key.partition("/")
            if not slash or kind not in ("full", "index", "sample", "moments"):
                kind, rest = "full", key
            if rest.startswith(("blob_diff/", "param_diff/")):
                continue
            self._known.setdefault(rest.removeprefix("blob/"), {})[kind] = key
        self.names = [name for name, kinds in self._known.items() if kinds.keys() != {"moments"}]

    def array(self, name):
        """Return the whole blob `name`, or None when the file does not hold it whole."""
        key = self._known.get(name, {}).get("full")
        return None if key is None else self._numbers(key)

    def _numbers(self, key):
        try:
            array = np.asarray(self._get(key))
        except MemoryError:
            raise
        except Exception as error:  # as above
            raise Error(f"cannot read '{key}' of '{self.path}': {' '.join(str(error).split())}") from None
        if array.dtype.kind not in "fiub":
            raise Error(f"'{key}' of '{self.path}' holds {array.dtype}, not numbers")
        return array

    def difference(self, name, ours, layers, tolerance):
        """Return the `Difference` of the blob `name`, which is `ours` here and was written by `layers`."""
        keys = self._known[name]
        if "full" in keys:
            theirs = self._numbers(keys["full"])
            if ours.shape != theirs.shape and ours.size != theirs.size:
                note = f"shape {list(theirs.shape)} in the dump"
                return Difference(name, ours.shape, float("inf"), float("inf"), _largest(theirs), note, layers, True)
            absolute, largest = _deviation(ours, theirs), _largest(theirs[np.isfinite(theirs)])
            note = "" if ours.shape == theirs.shape else f"shape {list(theirs.shape)} in the dump"
        else:
            if "index" not in keys or "sample" not in keys:
                raise Error(f"'{self.path}': blob '{name}' has only {' and '.join(sorted(keys))}; a sampled blob needs "
                            "index and sample")
            index, theirs = self._numbers(keys["index"]).reshape(-1), self._numbers(keys["sample"]).reshape(-1)
            if index.size != theirs.size or index.dtype.kind not in "ui":
                raise Error(f"'{self.path}': blob '{name}' has {index.size} indices ({index.dtype}) for {theirs.size} "
                            "values")
            if index.size and (index.min() < 0 or index.max() >= ours.size):
                note = f"smaller than the dump's: it has index {index.max()}"
                return Difference(name, ours.shape, float("inf"), float("inf"), _largest(theirs), note, layers, True)
            absolute = _deviation(ours.reshape(-1)[index], theirs)
            largest, note = _largest(theirs[np.isfinite(theirs)]), f"{index.size} of {ours.size} values"
            if "moments" in keys:
                # What the sample does not see, the mean and the spread do.
                values = ours.astype(np.float64)
                moments = self._numbers(keys["moments"]).reshape(-1)[:2]
                absolute = max(absolute, _deviation([values.mean(), values.std()][:moments.size], moments))
                note += ", mean and spread"
        # A reference of zeros has no scale: its difference is taken as it is.
        relative = absolute / largest if largest else absolute
        departs = not relative <= tolerance or note.startswith("shape")
        return Difference(name, ours.shape, absolute, relative, largest, note, layers, departs)


def _report(differences, reference, net, options):
    known = reference.names
    absent = [name for name in known if name not in net.blobs]
    if not differences:
        raise Error(f"no blob in common: the net makes {', '.join(list(net.blobs)[:6])}, ...; "
                    f"'{options.against}' holds {', '.join(known[:6]) or 'nothing'}, ...")
    width = max(len("blob"), *(len(one.blob) for one in differences))
    print(f"{'blob':{width}}  {'shape':>18}  {'largest':>10}  {'absolute':>10}  {'relative':>10}")
    for one in differences:
        mark = "  DEPARTS" if one.departs else ""
        note = f"  ({one.note})" if one.note else ""
        print(f"{one.blob:{width}}  {'x'.join(map(str, one.shape)) or '()':>18}  {one.largest:10.4g}  "
              f"{one.absolute:10.3g}  {one.relative:10.3g}{mark}{note}")
    if options.all:
        for name in net.blobs:
            if name not in known:
                print(f"{name:{width}}  not in the reference")
    if absent:
        print(f"\nonly in the reference: {', '.join(absent[:8])}{', ...' if len(absent) > 8 else ''}")
    worst = max(differences, key=lambda one: one.relative)
    print(f"\n{len(differences)} blobs compared, {sum(one.departs for one in differences)} depart; "
          f"largest relative difference {worst.relative:.3g} ('{worst.blob}')")
    first = next((one for one in differences if one.departs), None)
    if first is None:
        return 0
    kinds = ", ".join(f"'{name}' ({net.layer_dict[name].type})" for name in first.layers)
    print(f"first to depart: blob '{first.blob}', written by {kinds}")
    return 1


# --- inputs ----------------------------------------------------------------------------------------------------------


def _is_dump(path):
    return bool(path) and path.lower().endswith((".npz", ".h5", ".hdf5"))


def _with_inputs(message, given, shapes):
    # Input layers, shaped as what is going to be fed, in the place of data layers.
    wanted = dict(shapes)
    tops = [top for layer in message.layer if layer.type == "Input" or nets.brings_data(layer) for top in layer.top]
    for top in tops:
        array = given.array(top) if given else None
        if array is not None:
            wanted[top] = tuple(array.shape)
    return nets.without_data(message, wanted)


def _picture(message, options, path):
    mean = nets.three_numbers(options.mean) if options.mean else nets.mean_beside(path)[0] or transform.VOC_MEAN
    image = pictures.read(files.find(options.input, what="input"))
    data = transform.preprocess(image, mean)[None]
    colour = [top for layer in message.layer if layer.type == "Input" for top, shape in zip(
        layer.top, list(layer.input_param.shape) * (len(layer.top) if len(layer.input_param.shape) == 1 else 1))
        if len(shape.dim) == 4 and shape.dim[1] == 3]
    if len(colour) != 1:
        raise Error(f"'{options.input}' is a picture, but the net has {len(colour)} inputs of 3 channels; "
                    "give an .npz file with the input blobs")
    return nets.without_data(message, {colour[0]: data.shape}), {colour[0]: data}


def feed(net, given=None, picture=None, seed=1337):
    """Fill the inputs of `net`; return what was done in words.

    What `picture` (input name -> array) lacks comes from `given` (a `Dump`), what that lacks is seeded random numbers,
    and zeros for labels.
    """
    said = []
    generator = np.random.default_rng(seed)
    if not net.inputs:
        raise Error(f"net '{net.name}' has no input to feed")
    for name in net.inputs:
        blob = net.blobs[name]
        array = (picture or {}).get(name)
        source = "the picture"
        if array is None and given is not None:
            array, source = given.array(name), given.path
        if array is not None:
            blob.reshape(*array.shape)
            blob.data[...] = array
        elif name in ("label", "sem", "geo"):
            blob.data[...], source = 0, "zeros"
        else:
            # The spread of pictures less their mean.
            blob.data[...], source = generator.standard_normal(blob.shape) * 50, f"random numbers of seed {seed}"
        said.append(f"{name} {'x'.join(map(str, blob.shape))} ({source})")
    net.reshape()
    return ", ".join(said)


# --- output ----------------------------------------------------------------------------------------------------------


def write_dump(path, arrays):
    """Write {name: array} to an .npz file, or HDF5 when `path` ends in .h5; atomic."""
    if hdf5.wants_hdf5(path):
        with hdf5.write_file(path) as file:
            for name, array in arrays.items():
                if any(other.startswith(name + "/") for other in arrays):
                    raise Error(f"HDF5 cannot hold '{name}' as an array and as a folder of others; write an .npz file")
                file.create_dataset(name, data=array)
    elif path.lower().endswith(".npz"):
        with files.atomic(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            # By hand, since numpy.savez takes names as keywords and blobs may be called "file".
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.ascontiguousarray(array).reshape(np.shape(array)),
                                              allow_pickle=False)
    else:
        raise UnknownName(f"--dump writes .npz or .h5 files, not '{path}'")


# --- OpenCV ----------------------------------------------------------------------------------------------------------


def opencv_blobs(message, net, made):
    """Let OpenCV's Caffe importer run the same net on the same inputs; return the `Dump` of what it computed.

    `made` maps blobs to the layers that write them, as `made_by` returns.
    """
    cv2 = _opencv()
    blobs = {}
    with tempfile.TemporaryDirectory(prefix="deepjet-") as folder:
        prototxt, caffemodel = os.path.join(folder, "deploy.prototxt"), os.path.join(folder, "weights.caffemodel")
        plain = caffe_pb2.NetParameter()
        plain.CopyFrom(message)
        plain.ClearField("state")  # OpenCV's own schema may not know what it does not need
        with open(prototxt, "w", encoding="utf-8") as file:
            file.write(text.dump(plain))
        nets.save(caffemodel, message, net.params)
        try:
            engine = cv2.dnn.readNetFromCaffe(prototxt, caffemodel)
            engine.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
            engine.enableFusion(False)  # a fused layer has no output of its own
            if hasattr(engine, "enableWinograd"):
                engine.enableWinograd(False)  # it is quicker and less exact
            for name in net.inputs:
                engine.setInput(net.blobs[name].data, name)
            there = set(engine.getLayerNames())
            wanted = {}
            for blob, layers in made.items():
                # OpenCV names a layer after its first top, but one that works in place keeps its own name.
                names = [layers[-1]] if len(layers) > 1 else [blob, layers[-1]]
                name = next((name for name in names if name in there), None)
                if name and blob not in net.inputs:
                    wanted[blob] = name
            outputs = engine.forward(list(wanted.values()))
        except cv2.error as error:
            raise Error(f"OpenCV {cv2.__version__} cannot run this net: {' '.join(str(error).split())}") from None
    for blob, output in zip(wanted, outputs):
        output = output[0] if isinstance(output, (tuple, list)) else output
        blobs[blob] = np.array(output)
    return Dump.of(blobs)


def _opencv():
    try:
        import cv2
    except ImportError:
        raise Error("--against opencv needs OpenCV 4, which is not installed: "
                    "pip install 'opencv-python-headless<5'") from None
    if not hasattr(getattr(cv2, "dnn", None), "readNetFromCaffe") or int(cv2.__version__.split(".")[0]) >= 5:
        raise Error(f"--against opencv needs OpenCV 4; version {cv2.__version__} has no Caffe importer any more: "
                    "pip install 'opencv-python-headless<5'")
    return cv2


if __name__ == "__main__":
    sys.exit(run_door(main))
