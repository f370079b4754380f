"""The text format: what is read, what is refused and with which words, and round trips through every message."""

import itertools
import math
import random
import re
import struct

import pytest

from netspec import caffe_pb2, text
from netspec.errors import Error, PathError
from tests.support import ROOT, shared

NET = caffe_pb2.NetParameter
MESSAGES = sorted(caffe_pb2.DESCRIPTOR.message_types_by_name)

EXAMPLE = """\
# A net with a bit of everything.
name: "example"
layer {
  name: "data"
  type: "Input"
  top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 500 dim: 500 } }
}
layer {
  name: "conv1"
  type: "Convolution"
  bottom: "data"
  top: "conv1"
  param { lr_mult: 1 decay_mult: 1 }
  param { lr_mult: 2 decay_mult: 0 }
  convolution_param {
    num_output: 64
    pad: 100
    kernel_size: 3
    weight_filler { type: "gaussian" std: 0.01 }
    engine: CAFFE
  }
}
layer {
  name: "pool1"
  type: "Pooling"
  bottom: "conv1"
  top: "pool1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 }
  include { phase: TRAIN not_stage: "deploy" }
}
layer {
  name: "loss"
  type: "SoftmaxWithLoss"
  bottom: "pool1"
  bottom: "data"
  top: "loss"
  loss_weight: 1e-3
  loss_param { ignore_label: 255 normalize: false }
}
"""


def refusal(prototxt, message=NET, source="f"):
    """Return the words with which a text is refused."""
    with pytest.raises(Error) as caught:
        text.parse(prototxt, message(), source)
    words = str(caught.value)
    assert "\n" not in words
    return words


# What is read


@pytest.mark.parametrize(
    "same",
    [
        "pooling_param { pool: AVE kernel_size: 3 stride: 2 }",
        "pooling_param { pool: AVE; kernel_size: 3; stride: 2; }",
        "pooling_param { pool: AVE, kernel_size: 3, stride: 2, };",
        "pooling_param: { pool: AVE kernel_size: 3 stride: 2 }",
        "pooling_param < pool: AVE kernel_size: 3 stride: 2 >",
        "pooling_param{pool:AVE kernel_size:3 stride:2}",
        "pooling_param {\r\n  pool: AVE # the mean\r\n  kernel_size: 3\r\n\tstride: 2\r\n}\r\n",
        "# first\npooling_param { # {\n pool: 1 kernel_size: 0x3 stride: 02 } # last",
    ],
)
def test_spellings_of_one_message(same):
    layer = text.parse(same, caffe_pb2.LayerParameter())
    wanted = caffe_pb2.LayerParameter(pooling_param={"pool": 1, "kernel_size": 3, "stride": 2})
    assert layer == wanted


def test_strings_in_either_quotes_with_escapes_and_in_pieces():
    for written in ("'it is \"a\"'", '"it is \\"a\\""', '"it " \'is "a"\'', '"it\\x20is\\040\\"a\\""'):
        assert text.parse(f"name: {written}", NET()).name == 'it is "a"'
    assert text.parse('name: "# { 网络 é"', NET()).name == "# { 网络 é"


def test_repeated_fields_one_by_one_or_in_brackets():
    for written in ("kernel_size: 3 kernel_size: 5", "kernel_size: [3, 5]", "kernel_size: [3] kernel_size: [] "
                    "kernel_size: 5"):
        assert list(text.parse(written, caffe_pb2.ConvolutionParameter()).kernel_size) == [3, 5]
    net = text.parse('layer: [{ name: "a" }, < name: "b" >] layer { name: "c" }', NET())
    assert [layer.name for layer in net.layer] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-3", 1e-3), ("2", 2), (".5", 0.5), ("-1.5f", -1.5), ("inf", math.inf), ("-inf", -math.inf),
     ("Infinity", math.inf), ("1e60", math.inf)],
)
def test_floats(written, value):
    read = text.parse(f"value: {written}", caffe_pb2.FillerParameter()).value
    assert read == pytest.approx(value, rel=1e-7)
    assert math.isnan(text.parse("value: nan", caffe_pb2.FillerParameter()).value)


@pytest.mark.parametrize("written", ["true", "True", "t", "1"])
def test_bools(written):
    assert text.parse(f"force_backward: {written}", NET()).force_backward is True


def test_parse_clears_the_message_and_leaves_it_alone_when_it_refuses():
    net = NET(name="old", debug_info=True)
    assert text.parse('name: "new"', net) is net
    assert net == NET(name="new")
    with pytest.raises(Error):
        text.parse('debug_info: true nam: "x"', net)
    assert net == NET(name="new")


# What is refused, and where


@pytest.mark.parametrize(
    ("prototxt", "wanted"),
    [
        ("layer {\n  convolution_param {\n    kernal_size: 3 } }",
         "f:3:5: unknown field 'kernal_size' in ConvolutionParameter; did you mean 'kernel_size'?"),
        ('nam: "x"', "f:1:1: unknown field 'nam' in NetParameter; did you mean 'name'?"),
        ("xyzzy: 3", "f:1:1: unknown field 'xyzzy' in NetParameter"),
        ("layer { pad: 1 }", "f:1:9: unknown field 'pad' in LayerParameter; it is a field of convolution_param, "
                             "pooling_param"),
        ("layer { pooling_param { pool: MAXX } }",
         "f:1:31: 'pool' of PoolingParameter wants one of MAX, AVE, STOCHASTIC, found 'MAXX'; did you mean 'MAX'?"),
        ("layer { pooling_param { pool: 7 } }",
         "f:1:31: 'pool' of PoolingParameter wants one of MAX, AVE, STOCHASTIC, found '7'"),
        ('layer { pooling_param { pool: "MAX" } }',
         "f:1:31: 'pool' of PoolingParameter wants one of MAX, AVE, STOCHASTIC, found \"MAX\"; "
         "write MAX without quotes"),
        ("layer { phase: TRAINING }", "f:1:16: 'phase' of LayerParameter wants one of TRAIN, TEST, found 'TRAINING'; "
                                      "did you mean 'TRAIN'?"),
        ('layers { type: "ReLU" }',
         "f:1:16: 'type' of V1LayerParameter wants a LayerType, such as ABSVAL, found \"ReLU\"; 'layers' is the old "
         "form: write RELU, or 'layer' instead of 'layers'"),
        ("layer { type: SOFTMAX_LOSS }",
         "f:1:15: 'type' of LayerParameter wants a quoted string, found 'SOFTMAX_LOSS'; in a 'layer' that is type: "
         '"SoftmaxWithLoss"'),
        ("layer { name: conv1 }", "f:1:15: 'name' of LayerParameter wants a quoted string, found 'conv1'; write "
                                  '"conv1"'),
        ("input_dim: 3.0",
         "f:1:12: 'input_dim' of NetParameter wants a whole number from -2147483648 to 2147483647 (int32), found "
         "'3.0'"),
        ('input_dim: "3"',
         "f:1:12: 'input_dim' of NetParameter wants a whole number from -2147483648 to 2147483647 (int32), found "
         '"3"'),
        ("layer { convolution_param { num_output: -1 } }",
         "f:1:41: 'num_output' of ConvolutionParameter wants a whole number from 0 to 4294967295 (uint32), found "
         "'-1'"),
        ("layer { convolution_param { pad: 1\npad: 4294967296 } }",
         "f:2:6: 'pad' of ConvolutionParameter wants a whole number from 0 to 4294967295 (uint32), found "
         "'4294967296'"),
        ("layer { loss_weight: high }", "f:1:22: 'loss_weight' of LayerParameter wants a number, found 'high'"),
        ("force_backward: yes", "f:1:17: 'force_backward' of NetParameter wants true or false, found 'yes'"),
        ("layer { convolution_param: 3 }",
         "f:1:28: 'convolution_param' of LayerParameter wants a message in { }, found '3'"),
        ("name: { }", "f:1:7: 'name' of NetParameter wants a quoted string, found '{'"),
        ("layer {\n name: }", "f:2:8: 'name' of LayerParameter wants a quoted string, found '}'"),
        ('name "x"', "f:1:6: expected ':' after 'name', found \"x\""),
        ("name:", "f:1: 'name' of NetParameter wants a quoted string, found the end of the file"),
        ("input_dim: [1, 2", "f:1: expected ',' or ']' in the list of 'input_dim', found the end of the file"),
        ("layer {\n name: 'a'\n\n", "f:4: end of the file inside 'layer' opened on line 1: a closing '}' is missing"),
        ("layer {\n convolution_param {\n pad: 1\n}\nlayer {\n}\n",
         "f:5:1: unknown field 'layer' in LayerParameter; it is a field of NetParameter: is the '}' of the 'layer' "
         "opened on line 1 missing?"),
        ("layer {\n convolution_param {\n pad: 1\n top: 'x' } }",
         "f:4:2: unknown field 'top' in ConvolutionParameter; it is a field of LayerParameter: is the '}' of the "
         "'convolution_param' opened on line 2 missing?"),
        ("layer { } }", "f:1:11: '}' closes nothing: no message is open here"),
        ("layer {\n name: 'a' >", "f:2:12: 'layer' was opened with '{' on line 1: expected '}', found '>'"),
        ("layer {\n name: 'a'\n type: 'b'\n name: 'c' }",
         "f:4:2: 'name' of LayerParameter is given twice (lines 2 and 4) and is not a repeated field; keep one"),
        ("layer { lrn_param {}\n lrn_param {} }",
         "f:2:2: 'lrn_param' of LayerParameter is given twice (lines 1 and 2) and is not a repeated field; keep one"),
        ("layer {\n clip_param { min: 1 } }", "f:2:2: ClipParameter lacks the required field 'max'"),
        ('name: "abc', "f:1:7: 'name' of NetParameter wants a quoted string, found '\"'; a string is not closed on "
                       "its line"),
        ('name: "\\xzz"', "f:1:7: 'name' of NetParameter wants a quoted string, found \"\\xzz\"; it has a wrong "
                          "escape (after a backslash) or is not UTF-8"),
        ("[foo.bar]: 3", "f:1:1: extensions ('[...]') are not part of Caffe's format; expected a field of "
                         "NetParameter"),
        ("name: 'a' = 3", "f:1:11: expected the name of a field of NetParameter, found '='"),
        ("3: 4", "f:1:1: expected the name of a field of NetParameter, found '3'"),
        ("layer { name: 'a',, }", "f:1:19: expected the name of a field of LayerParameter, found ','"),
        ("\x00\x01", "f:1:1: expected the name of a field of NetParameter, found '\\x00'"),
    ],
)
def test_refusals_say_what_where_and_the_cure(prototxt, wanted):
    words = refusal(prototxt)
    assert words[: len(wanted)] == wanted


def test_required_fields_of_the_outermost_message():
    assert refusal("min: 1", caffe_pb2.ClipParameter) == "f:1: ClipParameter lacks the required field 'max'"


@pytest.mark.parametrize("deep", ["{" * 200000, "layer {" * 50000, "layer { a {" * 50000, "[" * 200000,
                                  "layers { layer { " * 50000, "layer: [" * 50000])
def test_deep_nesting_is_a_plain_refusal(deep):
    assert refusal(deep).startswith("f:1:")


def test_huge_numbers_and_tokens_are_plain_refusals():
    assert "wants a whole number" in refusal("input_dim: " + "9" * 10000)
    assert len(refusal("input_dim: " + "9" * 10000)) < 200
    assert "unknown field" in refusal("a" * 1000)


def test_bytes_that_are_no_utf8_are_refused_outside_of_comments():
    # A file's odd bytes arrive as lone surrogates (see `text.decode`).
    assert text.parse("name: 'n' # \udcff", NET()).name == "n"
    assert "is not UTF-8" in refusal("name: 'caf\udce9'")
    assert refusal("layer { phase: \udce9 }").endswith("wants one of TRAIN, TEST, found '\\udce9'")
    assert refusal("\udce9: 3").endswith("found '\\udce9'")
    assert "wants a quoted string" in refusal("layer { type: \udce9 }")
    assert "not UTF-8" in refusal("data: '\udce9'", caffe_pb2.Datum)


def test_a_net_with_any_damage_is_read_or_refused():
    source = random.Random(2016)
    pieces = ["{", "}", "<", ">", "[", "]", ":", ",", ";", '"', "'", "#", "\\", "\n", "\0", "\x80", "\udc80", "é", "-",
              "1e999", "nan", "layer", "layers", "type", "name: ", "inf", "0x", "99999999999999999999", "\ufeff"]
    refused = 0
    for _ in range(600):
        mutant = EXAMPLE
        for _ in range(source.randint(1, 3)):
            at = source.randrange(len(mutant))
            kind = source.randrange(4)
            if kind == 0:
                mutant = mutant[:at] + mutant[at + source.randint(1, 30):]
            elif kind == 1:
                mutant = mutant[:at] + source.choice(pieces) + mutant[at:]
            elif kind == 2:
                mutant = mutant[:at] + chr(source.choice([source.randrange(128), source.randrange(0x3000)])) + (
                    mutant[at + 1:])
            else:
                other = source.randrange(len(mutant))
                mutant = mutant[:at] + mutant[other: other + source.randint(1, 60)] + mutant[at:]
        try:
            net = text.parse(mutant, NET(), "mutant")
        except Error as error:
            assert str(error).startswith("mutant:")
            refused += 1
        else:
            assert text.parse(text.dump(net), NET()) == net
        text.layer_lines(mutant + "\n")
    assert 200 < refused < 600


def test_the_diagnosis_finds_nothing_in_what_protobuf_takes():
    for prototxt in (EXAMPLE, "layer: [<>, {}];", "input_dim: [1,-0x2]", "", "state {};"):
        text.parse(prototxt, NET())
        text._Diagnosis(prototxt, "f").whole(NET.DESCRIPTOR)


# Files


def test_read_names_the_file_and_the_place(tmp_path):
    path = tmp_path / "train.prototxt"
    path.write_text(EXAMPLE.replace("kernel_size: 3", "kernal_size: 3"))
    with pytest.raises(Error, match=rf"^{path}:19:5: unknown field 'kernal_size' in ConvolutionParameter; did you"):
        text.read(path, NET)
    with pytest.raises(PathError, match="'nowhere.prototxt' not found"):
        text.read("nowhere.prototxt", NET)


@pytest.mark.parametrize("nothing", ["", " \n\n", "# only a comment", "\ufeff"])
def test_empty_file(tmp_path, nothing):
    path = tmp_path / "empty.prototxt"
    path.write_text(nothing, encoding="utf-8")
    with pytest.raises(Error, match=rf"'{path}' is empty: it holds no field of SolverParameter"):
        text.read(path, caffe_pb2.SolverParameter)


def test_binary_file(tmp_path):
    path = tmp_path / "weights.caffemodel"
    path.write_bytes(NET(name="n", layer=[caffe_pb2.LayerParameter(name="abc")]).SerializeToString())
    with pytest.raises(Error, match=r"is not a prototxt: byte 1 \(line 2\) is 0x01; is a binary file"):
        text.read(path, NET)
    path.write_bytes('name: "n"'.encode("utf-16"))
    with pytest.raises(Error, match="is UTF-16 text; save it as UTF-8"):
        text.read(path, NET)


def test_comments_in_any_encoding_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "old.prototxt"
    path.write_bytes(b"\xef\xbb\xbf# caf\xe9 \xd6\xd0\xce\xc4\nname: 'n' # \xff\n")
    assert text.read(path, NET).name == "n"
    path.write_bytes(b"name: 'caf\xe9'\n")
    with pytest.raises(Error, match=rf"^{path}:1:7: 'name' of NetParameter.*is not UTF-8"):
        text.read(path, NET)


def test_layer_lines_and_places(tmp_path):
    prototxt = (
        'name: "layer {"  # layer {\n'
        "layer {\n name: 'a'\n param { name: 'w' }\n}\n"
        "layer: {\n type: 'T' name: 'b' }  layer\n{ name: \"c\\x64\" }\n"
        "layer: [{ name: 'e' },\n  { name: 'a' }]\n"
        "state { stage: 'layer' }\n"
        "layers < layer { pool: MAX\n name: 'f' } >\n"
        "layers { bottom: 'x' name: 'g' }\n"
    )
    assert text.layer_lines(prototxt) == [2, 6, 7, 9, 10, 12, 14]
    path = tmp_path / "net.prototxt"
    path.write_text(prototxt)
    assert text.layer_lines(path) == text.layer_lines(str(path)) == [2, 6, 7, 9, 10, 12, 14]
    assert text.layer_places(path) == {
        "a": f"{path}:2, :10", "b": f"{path}:6", "cd": f"{path}:7", "e": f"{path}:9", "f": f"{path}:12",
        "g": f"{path}:14",
    }
    text.parse(prototxt, NET())


def test_layer_lines_agree_with_the_layers_of_a_net():
    net = text.parse(EXAMPLE, NET())
    lines = EXAMPLE.splitlines()
    found = text.layer_lines(EXAMPLE)
    assert [lines[n - 1] for n in found] == ["layer {"] * len(net.layer)
    assert [f'name: "{layer.name}"' in lines[n] for n, layer in zip(found, net.layer)] == [True] * len(net.layer)


# Writing


def test_floats_are_written_with_their_shortest_digits():
    solver = caffe_pb2.SolverParameter(base_lr=1e-14, weight_decay=0.0005, momentum=0.99, gamma=math.inf)
    assert text.dump(solver) == "base_lr: 1e-14\ngamma: inf\nmomentum: 0.99\nweight_decay: 0.0005\n"
    source = random.Random(1)
    for _ in range(2000):
        value = struct.unpack("<f", source.randbytes(4))[0]
        filler = caffe_pb2.FillerParameter(value=value)
        again = text.parse(text.dump(filler), caffe_pb2.FillerParameter())
        assert again.value == filler.value or math.isnan(value)
        digits = text.dump(filler).removeprefix("value: ").split("e")[0].replace(".", "").strip("-0\n")
        assert len(digits) <= 9  # enough for any 32-bit value


def test_text_outside_ascii_stays_readable():
    assert text.dump(NET(name='é网"\n')) == 'name: "é网\\"\\n"\n'


# Every message of the schema


def values_of(field, source):
    """Return values to try for a scalar or enum field: the ends of its range, and others."""
    if field.enum_type:
        return [value.number for value in field.enum_type.values]
    if field.type in text.INTEGERS:
        _, smallest, largest = text.INTEGERS[field.type]
        return [smallest, largest, 0, 1, source.randint(smallest, largest)]
    if field.type in text.FLOATS:
        return [0.0, -0.0, 1.5, -1e-5, 0.0005, math.inf, -math.inf, 3.4028234663852886e38, 1e-45, source.uniform(-9, 9)]
    if field.type == field.TYPE_BOOL:
        return [True, False]
    if field.type == field.TYPE_BYTES:
        return [b"", bytes(range(256)), b'"\\\n']
    return ["", "plain", "'\"\\\n\t#{}", "é网\U0001f600"]


def fill(message, source, only=None):
    """Set every field of `message` (or `only` one) and, below, every field of its messages."""
    for field in message.DESCRIPTOR.fields:
        if only is not None and field.name != only and not text._is_required(field):
            continue
        repeated = text._is_repeated(field)
        if field.message_type:
            inner = [getattr(message, field.name).add() for _ in range(2)] if repeated else [
                getattr(message, field.name)]
            for one in inner:
                one.SetInParent()
                fill(one, source)
        elif repeated:
            getattr(message, field.name).extend(values_of(field, source))
        else:
            setattr(message, field.name, source.choice(values_of(field, source)))


def assert_round_trip(message):
    kind = type(message)
    written = text.dump(message)
    parsed = text.parse(written, kind())
    assert parsed.SerializeToString() == message.SerializeToString()
    assert text.dump(kind.FromString(message.SerializeToString())) == written


@pytest.mark.parametrize("name", MESSAGES)
def test_round_trip_of_each_field(name):
    kind = getattr(caffe_pb2, name)
    for i, field in enumerate(kind.DESCRIPTOR.fields):
        for seed in range(1 if field.message_type else 4):
            message = kind()
            fill(message, random.Random(seed * 1000 + i), only=field.name)
            assert message.ListFields()
            assert_round_trip(message)


@pytest.mark.parametrize("name", [n for n in MESSAGES if n != "SolverParameter"])  # a solver full of nets takes long
def test_round_trip_of_a_full_message(name):
    message = getattr(caffe_pb2, name)()
    fill(message, random.Random(7))
    assert len(message.ListFields()) == len(message.DESCRIPTOR.fields)
    assert_round_trip(message)


def all_descriptors():
    """Return path -> descriptor of all messages and enums of the schema."""
    messages = dict(caffe_pb2.DESCRIPTOR.message_types_by_name)
    enums = dict(caffe_pb2.DESCRIPTOR.enum_types_by_name)
    for name, descriptor in list(messages.items()):
        enums.update({f"{name}.{enum}": one for enum, one in descriptor.enum_types_by_name.items()})
    return messages, enums


def test_schema_is_the_table_of_facts():
    rows = [line.split("\t") for line in shared("caffe_schema.tsv").read_text().splitlines() if line[0] != "#"]
    messages, enums = all_descriptors()
    types = {number: name[5:].lower() for name, number in vars(messages["BlobShape"].fields[0].__class__).items()
             if name.startswith("TYPE_") and isinstance(number, int)}
    fields, values = set(), set()
    for kind, where, number, name, label, type_name, default, options in rows:
        if kind == "enum":
            assert enums[where].values_by_name[name].number == int(number), (where, name)
            values.add((where, name))
            continue
        field = messages[where].fields_by_name[name]
        at = (where, name)
        assert field.number == int(number), at
        assert text._is_repeated(field) is (label == "repeated"), at
        assert text._is_required(field) is (label == "required"), at
        inner = field.message_type or field.enum_type
        assert type_name == (inner.full_name.removeprefix("caffe.") if inner else types[field.type]), at
        assert ("packed" in options) is field.GetOptions().packed, at
        if not default:
            assert not field.has_default_value, at
        elif field.enum_type:
            assert field.default_value == field.enum_type.values_by_name[default].number, at
        elif field.type == field.TYPE_STRING:
            assert field.default_value == default.strip('"'), at
        elif field.type == field.TYPE_BOOL:
            assert field.default_value is (default == "true"), at
        else:
            assert field.default_value == pytest.approx(float(default), rel=1e-7, abs=0), at
        fields.add(at)
    ours = {(where, f.name) for where, message in messages.items() for f in message.fields}
    ours = {(where, name) for where, name in ours if where == "LayerParameter" or where not in FORKS}
    assert ours - fields == {("SolverState", "deepjet")} | {("LayerParameter", name) for name in FORKS["LayerParameter"]}
    assert fields <= ours
    assert values == {(where, v.name) for where, enum in enums.items() for v in enum.values
                      if where.partition(".")[0] not in FORKS}


# Message -> fields of the forks that we know, by number; those from 1000 up have other numbers there (netspec/forks.py).
FORKS = {
    "LayerParameter": {"bn_param": 45, "interp_param": 163, "permute_param": 202, "prior_box_param": 203,
                       "detection_output_param": 204, "norm_param": 206, "upsample_param": 1147, "relu6_param": 100000,
                       "roi_pooling_param": 8266711},
    "BNParameter": {"scale_filler": 1, "shift_filler": 2, "bn_mode": 3, "moving_average": 4, "decay": 5, "axis": 6, "momentum": 7,
                    "eps": 8, "frozen": 9, "engine": 12, "slope_filler": 1001, "bias_filler": 1002, "var_eps": 1003},
    "UpsampleParameter": {"scale": 1, "scale_h": 2, "scale_w": 3, "pad_out_h": 4, "pad_out_w": 5, "upsample_h": 6,
                          "upsample_w": 7},
    "InterpParameter": {"height": 1, "width": 2, "zoom_factor": 3, "shrink_factor": 4, "pad_beg": 5, "pad_end": 6,
                        "interp_type": 7},
    "PermuteParameter": {"order": 1},
    "NormalizeParameter": {"across_spatial": 1, "scale_filler": 2, "channel_shared": 3, "eps": 4},
    "PriorBoxParameter": {"min_size": 1, "max_size": 2, "aspect_ratio": 3, "flip": 4, "clip": 5, "variance": 6, "img_size": 7,
                          "img_h": 8, "img_w": 9, "step": 10, "step_h": 11, "step_w": 12, "offset": 13},
    "NonMaximumSuppressionParameter": {"nms_threshold": 1, "top_k": 2, "eta": 3},
    "SaveOutputParameter": {"output_directory": 1, "output_name_prefix": 2, "output_format": 3, "label_map_file": 4,
                            "name_size_file": 5, "num_test_image": 6},
    "DetectionOutputParameter": {"num_classes": 1, "share_location": 2, "background_label_id": 3, "nms_param": 4,
                                 "save_output_param": 5, "code_type": 6, "keep_top_k": 7, "variance_encoded_in_target": 8,
                                 "confidence_threshold": 9, "visualize": 10, "visualize_threshold": 11, "save_file": 12},
    "ReLU6Parameter": {"negative_slope": 1},
    "ROIPoolingParameter": {"pooled_h": 1, "pooled_w": 2, "spatial_scale": 3},
}


def test_fields_of_the_forks_have_their_numbers():
    messages, _ = all_descriptors()
    for where, fields in FORKS.items():
        found = {field.name: field.number for field in messages[where].fields}
        assert (fields.items() <= found.items()) if where == "LayerParameter" else found == fields, where
    assert messages["PriorBoxParameter"].enum_types_by_name["CodeType"].values_by_name["CORNER_SIZE"].number == 3


UNKNOWN = """name: "net"  layers_per_block: 3
layer {
  name: "up" type: "Softmax"  # a comment with { in it
  softmax_param { engine: CAFFE sort_label: -1.5e3; axes: [1, 2] }
  loss_param { class_weighting: 0.2 class_weighting: 0.3, normalize: true }
  visual { text: "a } brace" "more" inner < list: [ { a: 1 } ] > } top: "t"
}
"""


def test_unknown_fields_are_dropped_on_request_and_listed():
    dropped = []
    net = text.parse(UNKNOWN, caffe_pb2.NetParameter(), "net.prototxt", dropped)
    assert dropped == [
        "net.prototxt:1:14: dropped unknown field 'layers_per_block' in NetParameter",
        "net.prototxt:4:33: dropped unknown field 'sort_label' in SoftmaxParameter",
        "net.prototxt:4:53: dropped unknown field 'axes' in SoftmaxParameter; did you mean 'axis'?",
        "net.prototxt:5:16: dropped unknown field 'class_weighting' in LossParameter",
        "net.prototxt:5:37: dropped unknown field 'class_weighting' in LossParameter",
        "net.prototxt:6:3: dropped unknown field 'visual' in LayerParameter"]
    wanted = caffe_pb2.NetParameter(name="net")
    layer = wanted.layer.add(name="up", type="Softmax", top=["t"])
    layer.softmax_param.engine = caffe_pb2.SoftmaxParameter.CAFFE
    layer.loss_param.normalize = True
    assert net == wanted
    with pytest.raises(Error, match=r"net\.prototxt:1:14: unknown field 'layers_per_block' in NetParameter"):
        text.parse(UNKNOWN, caffe_pb2.NetParameter(), "net.prototxt")


def test_what_is_known_loses_nothing_on_request():
    dropped = []
    path = ROOT / "models/fcn8s/train.prototxt"
    assert text.read_net(path, dropped) == text.read_net(path) and dropped == []


@pytest.mark.parametrize("wrong, message", [
    ('leyer { name: "a" type: "ReLU" }', "x:1:1: unknown field 'leyer' in NetParameter looks like a layer, and layers are never "
                                         "dropped; did you mean 'layer'"),
    ("foo { bottom: 'a' }", "looks like a layer"),
    ("layer { relu_param { engine: FAST } }", "'engine' of ReLUParameter wants one of"),
    ("layer { top 3 }", "expected ':' after 'top'"),
    ("layer { foo }", "x:1:13: expected a value of the unknown field 'foo', found '}'"),
    ("foo: }", "expected a value of the unknown field 'foo'"),
    ("foo { [ 1 }", "x:1:11: '}' does not close what is open in 'foo' of line 1"),
    ("\nfoo { a {", "end of the file inside 'foo' opened on line 2"),
    ('foo: "open', "expected a value of the unknown field 'foo'"),
    ("layer { clip_param { foo: 1 min: 0 } }", "ClipParameter lacks the required field 'max'"),
])
def test_dropping_forgives_nothing_else(wrong, message):
    with pytest.raises(Error, match=re.escape(message)):
        text.parse(wrong, caffe_pb2.NetParameter(), "x", [])


def test_every_prototxt_of_the_house_is_read():
    found = sorted(itertools.chain(ROOT.glob("models/**/*.prototxt"), ROOT.glob("tests/goldens/**/*.prototxt")))
    if not found:
        pytest.skip("no prototxt has been made yet")
    for path in found:
        is_solver = "base_lr" in text.top_level_fields(path.read_text())
        message = (text.read_solver if is_solver else text.read_net)(path)
        assert_round_trip(message)
