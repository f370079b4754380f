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
import sys

import numpy as np

from data import pictures, transform
from netspec import caffe_pb2, files
from netspec.errors import Error, UnknownName, nearest, run_door
from netspec.options import named_shapes, three_numbers
from solvers import data_layers, engine, nets, opencv, stand_ins
from solvers.dumps import Dump, check_ending, write_dump


def main(argv=None):
    """Compare or dump."""
    options = _parser().parse_args(argv)
    if not options.against and not options.dump:
        raise UnknownName("nothing to do: give --against DUMP.npz|DUMP.h5|opencv or --dump FILE")
    if not 0 <= options.tolerance < float("inf"):
        raise UnknownName(f"--tolerance must be 0 or more, got {options.tolerance}")
    if options.dump:
        check_ending(options.dump)
    phase = caffe_pb2.Phase.Value(options.phase.upper())
    path = nets.find(options.net, ("deploy", "val", "test"))
    weights = files.find(options.weights, what="weights")
    reference = None
    if options.against and options.against != "opencv":
        reference = Dump(files.find(options.against, what="dump"))
    given, picture = reference, {}
    if _is_dump(options.input):
        given = Dump(files.find(options.input, what="input"))
    message = _with_inputs(nets.read(path, phase, options.allow_unknown), given, named_shapes(options.shape, "--shape"))
    if options.input and given is reference:
        message, picture = _picture(message, options, path)
    if options.against == "opencv":
        message = stand_ins.without_judges(message)
    net = nets.open_net(message, path, phase, weights, **engine.use(options))
    if options.end and options.end not in net.layer_names:
        raise UnknownName(f"net '{path}' has no layer '{options.end}'{nearest(options.end, net.layer_names)}; "
                          f"layers: {', '.join(net.layer_names)}")
    if options.input and not picture and not any(name in given.names for name in net.inputs):
        raise Error(f"'{options.input}' holds none of the net's inputs ({', '.join(net.inputs)}); "
                    f"it holds {', '.join(given.names[:6]) or 'nothing'}")
    end = net.layer_names.index(options.end) if options.end else len(net.layers) - 1
    said = feed(net, given, picture, options.seed)
    print(f"net       {path}\nweights   {weights}\ninput     {said}")
    engine.say_plan(options, net)
    net.forward(end=end)
    made = made_by(net, end)
    if options.against == "opencv":
        reference = opencv.blobs_of(message, net, made)
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
    engine.add_options(parser, low_memory=False)
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
    tops = [top for layer in message.layer if layer.type == "Input" or data_layers.brings_data(layer)
            for top in layer.top]
    for top in tops:
        array = given.array(top) if given else None
        if array is not None:
            wanted[top] = tuple(array.shape)
    return stand_ins.without_data(message, wanted)


def _picture(message, options, path):
    mean = three_numbers(options.mean) if options.mean else data_layers.mean_beside(path)[0] or transform.VOC_MEAN
    image = pictures.read_photo(files.find(options.input, what="input"))
    data = transform.preprocess(image, mean)[None]
    colour = [top for layer in message.layer if layer.type == "Input" for top, shape in zip(
        layer.top, list(layer.input_param.shape) * (len(layer.top) if len(layer.input_param.shape) == 1 else 1))
        if len(shape.dim) == 4 and shape.dim[1] == 3]
    if len(colour) != 1:
        raise Error(f"'{options.input}' is a picture, but the net has {len(colour)} inputs of 3 channels; "
                    "give an .npz file with the input blobs")
    return stand_ins.without_data(message, {colour[0]: data.shape}), {colour[0]: data}


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


if __name__ == "__main__":
    sys.exit(run_door(main))
