"""What is measured of a spec: the paper's figures, fields against brute force, shapes, mistakes."""

import random
import subprocess
import sys
from fractions import Fraction

import pytest

from netspec import caffe_pb2, make, measure, recipes, text
from netspec.errors import Error, UnknownName
from netspec.spec import NetSpec
from netspec.spec import layers as L
from tests.support import ROOT


def recipe(name, split="train", **options):
    return make.recipe(name).net(split, **options)


def by_name(rows):
    return {row.layer: row for row in rows}


def of_blob(rows, name):
    """The last row that has the blob `name` as a top."""
    return [row for row in rows if name in row.tops][-1]


@pytest.mark.parametrize("name, params, fixed, field", [
    ("fcn32s", 134_346_581, 1_806_336, 404), ("fcn_alexnet", 56_954_261, 1_750_329, 355),
])
def test_parameters_field_and_stride_of_table_1(name, params, fixed, field):
    rows = measure.measure(recipe(name))
    assert sum(row.learned for row in rows) == params
    assert sum(row.params for row in rows) == params + fixed
    score = by_name(rows)["score_fr"]
    assert score.field == (field, field) and score.stride == (32, 32)
    # The crop puts pixel on pixel: a score is centred on what it labels.
    assert by_name(rows)["score"].stride == (1, 1) and by_name(rows)["score"].offset == (0, 0)


def test_numbers_of_convolutions_of_table_1():
    # The paper counts AlexNet's 8 and VGG16's 16 layers; the score takes the place of the classifier.
    for name, layers in (("fcn_alexnet", 8), ("fcn32s", 16)):
        assert sum(row.type == "Convolution" for row in measure.measure(recipe(name))) == layers


@pytest.mark.parametrize("pool, field, stride", [("pool5", 212, 32), ("pool4", 100, 16), ("pool3", 44, 8)])
def test_fields_of_the_pools(pool, field, stride):
    row = by_name(measure.measure(recipe("fcn8s")))[pool]
    assert row.field == (field, field) and row.stride == (stride, stride)


def test_shapes_at_500():
    rows = measure.measure(recipe("fcn8s"))
    sizes = {name: shape[-1] for row in rows for name, shape in zip(row.tops, row.shapes) if len(shape) == 4}
    want = {"pool1": 349, "pool2": 175, "pool3": 88, "pool4": 44, "pool5": 22, "score_fr": 16, "upscore2": 34,
            "upscore_pool4": 70, "upscore8": 568, "score": 500}
    assert {name: sizes[name] for name in want} == want
    assert of_blob(rows, "label").shapes == [(1, 3, 500, 500), (1, 1, 500, 500)]
    assert by_name(rows)["loss"].shapes == [()] and by_name(rows)["loss"].field is None


@pytest.mark.parametrize("name", recipes.names())
def test_scores_have_the_size_of_the_image_and_lie_on_it(name):
    net = recipe(name, "deploy")
    inputs = {one.top[0]: (1, one.input_param.shape[0].dim[1], 97, 131) for one in net.layer if one.type == "Input"}
    rows = measure.measure(net, inputs)
    scores = [row for row in rows if row.type == "Crop" and row.shapes[0][2:] == (97, 131)]
    assert scores
    for row in scores:
        assert row.stride == (1, 1) and row.offset == (0, 0)


def test_multiply_accumulates_and_bytes_of_one_convolution():
    n = NetSpec()
    n.data = L.Input(shape={"dim": [2, 4, 10, 12]})
    n.conv = L.Convolution(n.data, num_output=6, kernel_size=[3, 5], group=2, stride=[1, 2], pad=[1, 0])
    n.relu = L.ReLU(n.conv, in_place=True)
    row, relu = measure.measure(n.to_proto())[1:]
    assert row.shapes == [(2, 6, 10, 4)] and row.params == 6 * 2 * 15 + 6 and relu.bytes == 0
    assert row.macs == 2 * 6 * 10 * 4 * (2 * 15) and row.bytes == 4 * 2 * 6 * 10 * 4
    assert row.field == (3, 5) and row.stride == (1, 2) and row.offset == (0, 2)


def test_shared_parameters_count_once():
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 3, 8, 8]})
    for name in ("one", "two"):
        n[name] = L.Convolution(n.data, num_output=5, kernel_size=1, param=[{"name": "w"}, {"lr_mult": 0}])
    assert [(row.params, row.learned) for row in measure.measure(n.to_proto())] == [(0, 0), (20, 15), (5, 0)]


def test_phase_chooses_the_layers():
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 3, 8, 8]})
    n.drop = L.Dropout(n.data, include={"phase": caffe_pb2.TRAIN})
    assert len(measure.measure(n.to_proto())) == 1
    assert len(measure.measure(n.to_proto(), phase=caffe_pb2.TRAIN)) == 2


def seen(steps, size):
    """For each output of a 1-D stack the set of inputs it depends on; inputs outside count too (wide padding)."""
    reach = {x: {x} for x in range(-size, 2 * size)}
    for kind, kernel, stride, pad in steps:
        out = {}
        for o in range(-size, 2 * size):
            if kind == "down":
                taps = [o * stride - pad + t for t in range(kernel)]
            else:
                taps = [(o + pad - t) // stride for t in range(kernel) if (o + pad - t) % stride == 0]
            if all(x in reach for x in taps):
                out[o] = set().union(*(reach[x] for x in taps)) if taps else set()
        reach = out
    return reach


@pytest.mark.parametrize("seed", range(30))
def test_field_stride_and_offset_are_what_a_stack_of_windows_sees(seed):
    draw = random.Random(seed)
    steps, reach = [], measure.Reach()
    for _ in range(draw.randint(1, 4)):
        kernel, stride, pad = draw.randint(1, 5), draw.randint(1, 3), draw.randint(0, 4)
        steps.append(("down", kernel, stride, pad))
        reach = reach.window(kernel, stride, pad, 1)
    values = seen(steps, 200)
    for o in (0, 1, 2):
        inputs = values[o]
        assert (min(inputs), max(inputs)) == (reach.lo + o * reach.stride, reach.hi + o * reach.stride)
    assert reach.offset == Fraction(min(values[0]) + max(values[0]), 2)
    assert reach.field == max(values[0]) - min(values[0]) + 1


@pytest.mark.parametrize("kernel, stride", [(4, 2), (64, 32), (63, 32), (3, 2), (16, 8), (5, 2)])
def test_upsampling_widens_the_field_as_much_as_its_largest_phase(kernel, stride):
    reach = measure.Reach().upsampled(kernel, stride, 0, 1)
    sizes = [len(seen([("up", kernel, stride, 0)], 200)[o]) for o in range(100, 100 + stride)]
    assert reach.field == max(sizes) and reach.stride == Fraction(1, stride)
    # Over one period the fields are centred where the map says, on average.
    middle = [sum(seen([("up", kernel, stride, 0)], 200)[o]) / size for o, size in zip(range(100, 100 + stride), sizes)]
    centre = reach.offset + (100 + Fraction(stride - 1, 2)) * reach.stride
    assert sum(middle) / stride == pytest.approx(float(centre), abs=0.5)


def test_whole_image_and_unequal_streams_have_no_field():
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 3, 8, 8]})
    n.pool = L.Pooling(n.data, global_pooling=True)
    n.ip = L.InnerProduct(n.data, num_output=2)
    rows = by_name(measure.measure(n.to_proto()))
    assert rows["pool"].field is None and rows["ip"].field is None


def test_what_only_the_data_tells_must_be_given():
    n = NetSpec()
    n.x, n.y, n.z = L.Python(module="m", layer="l", ntop=3)
    with pytest.raises(Error, match=r"shape of 'x', a top of 'x' \(Python\), .*--input x=1,3,500,500"):
        measure.measure(n.to_proto())
    shapes = {"x": (1, 2, 3, 4), "y": (5,), "z": (6, 7)}
    assert measure.measure(n.to_proto(), shapes)[0].shapes == [(1, 2, 3, 4), (5,), (6, 7)]
    sizes = measure.measure(recipe("siftflow_fcn32s", "trainval"), {"data": (1, 3, 256, 200)})[0].shapes
    assert sizes == [(1, 3, 256, 200), (1, 1, 256, 200), (1, 1, 256, 200)]


def test_mistakes_name_the_layer_and_the_nearest():
    with pytest.raises(UnknownName, match="no blob 'dta' to give a shape; did you mean 'data'"):
        measure.measure(recipe("fcn32s"), {"dta": (1, 3, 5, 5)})
    with pytest.raises(Error, match="every size must be at least 1 and the product below"):
        measure.measure(recipe("fcn32s"), {"data": (1, 3, 5_000_000, 5_000_000)})
    net = recipe("fcn32s", "deploy")
    net.layer[-1].crop_param.offset[0] = 90
    with pytest.raises(Error, match=r"layer 'score' \(Crop\): offset 90 \+ size 500 exceeds"):
        measure.measure(net)
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 3, 8, 8]})
    n.conv = L.Convolutoin(n.data)
    with pytest.raises(UnknownName, match="layer 'conv': unknown layer type 'Convolutoin'; did you mean 'Convolution'"):
        measure.measure(n.to_proto())
    net = text.parse('layer { name: "a" type: "ReLU" bottom: "dat" top: "a" }', caffe_pb2.NetParameter())
    with pytest.raises(Error, match="bottom 'dat'"):
        measure.measure(net)


def door(*arguments):
    command = [sys.executable, "-m", "netspec.measure", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_the_door_prints_a_table_and_one_blob():
    result = door("models/fcn32s/train.prototxt")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 1 + 43 + 1  # head, 42 layers of which one has 2 tops, totals
    assert "parameters 136,152,917 (134,346,581 learned, 1,806,336 fixed)" in lines[-1]
    result = door("models/fcn32s/deploy.prototxt", "--blob", "score_fr", "--input", "data=1,3,375,500")
    assert result.stdout.splitlines()[:4] == ["blob: score_fr", "shape: 1x21x12x16", "field: 404", "stride: 32"]


@pytest.mark.parametrize("arguments, code, says", [
    (["models/fcn32s/deploy.prototxt", "--blob", "scor"], 2, "no blob 'scor'; did you mean 'score'?; blobs: data, "),
    (["models/fcn32s/deploy.prototxt", "--input", "data"], 2, "--input takes NAME=SHAPE"),
    (["models/fcn32s/deploy.prototxt", "--input", "data=1,3,-5,5"], 2, "--input takes NAME=SHAPE"),
    (["nothing.prototxt"], 1, "'nothing.prototxt'"),
])
def test_mistakes_at_the_door(arguments, code, says):
    result = door(*arguments)
    assert result.returncode == code and says in result.stderr and "Traceback" not in result.stderr
