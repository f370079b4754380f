"""Surgery: what is copied, coerced, dropped and kept; bilinear kernels; more classes."""

import types

import numpy as np
import pytest

from layers.core.net import Net
from netspec import caffe_pb2
from netspec.errors import Error
from netspec.weights import read_weights
from solvers import surgery
from tests.solvers.doors import refused, run, write

DATA = """layer { name: "data" type: "Python" top: "data" top: "label"
  python_param { module: "gone" layer: "Gone" param_str: "{'mean': [1, 2, 3]}" } }
"""
INPUT = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 6 dim: 6 } } }\n'
CLASSIFIER = INPUT + """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } bias_filler { value: 0.5 } } }
layer { name: "fc6" type: "InnerProduct" bottom: "conv1" top: "fc6"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } bias_filler { value: 0.25 } } }
layer { name: "fc8" type: "InnerProduct" bottom: "fc6" top: "fc8"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
"""
FCN = DATA + """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "fc6" type: "Convolution" bottom: "conv1" top: "fc6"
  convolution_param { num_output: 5 kernel_size: 4 } }
layer { name: "fc8" type: "Convolution" bottom: "fc6" top: "fc8"
  convolution_param { num_output: CLASSES kernel_size: 1 } }
layer { name: "up" type: "Deconvolution" bottom: "fc8" top: "up" param { lr_mult: 0 }
  convolution_param { num_output: CLASSES kernel_size: 4 stride: 2 bias_term: false } }
layer { name: "score" type: "Crop" bottom: "up" bottom: "data" top: "score" crop_param { axis: 2 offset: 1 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
"""


def fcn(path, classes):
    return write(path, FCN.replace("CLASSES", str(classes)))


@pytest.fixture
def classifier(tmp_path):
    """(prototxt, caffemodel) of a net with fully connected layers."""
    path = write(tmp_path / "classifier.prototxt", CLASSIFIER)
    Net(path, caffe_pb2.TEST, seed=7).save(tmp_path / "classifier.caffemodel")
    return path, tmp_path / "classifier.caffemodel"


def arrays(path):
    return {name: [blob.data for blob in blobs] for name, blobs in read_weights(path).layers.items() if blobs}


def fake(**layers):
    """A net of bare arrays, as pycaffe's are seen."""
    def blob(array):
        return types.SimpleNamespace(data=np.array(array, np.float32))

    return types.SimpleNamespace(params={name: [blob(one) for one in blobs] for name, blobs in layers.items()})


def actions(rows):
    return [(row.layer, row.param, row.action) for row in rows]


# --- on nets in memory ---


def test_transplant_copies_coerces_and_drops():
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((5, 12))
    old = fake(conv=[np.ones((2, 3)), np.ones(2)], fc=[weights, np.arange(5)], gone=[np.ones(3)],
               wide=[np.ones((4, 2))], more=[np.ones(2), np.ones(2)])
    new = fake(conv=[np.zeros((2, 3)), np.zeros(2)], fc=[np.zeros((5, 3, 2, 2)), np.zeros(5)], wide=[np.zeros((5, 2))],
               more=[np.zeros(2)], fresh=[np.full(3, 7)])
    rows = surgery.transplant(new, old)
    assert actions(rows) == [
        ("conv", 0, "copied"), ("conv", 1, "copied"), ("fc", 0, "coerced"), ("fc", 1, "copied"), ("gone", 0, "dropped"),
        ("wide", 0, "dropped"), ("more", 0, "copied"), ("more", 1, "dropped"), ("wide", 0, "kept"),
        ("fresh", 0, "kept")]
    assert np.array_equal(new.params["fc"][0].data.reshape(5, 12), weights.astype(np.float32))
    assert not new.params["wide"][0].data.any()
    notes = {(row.layer, row.action): row.note for row in rows}
    assert "no layer 'gone'" in notes["gone", "dropped"]
    assert "8 values do not fit 10" in notes["wide", "dropped"]
    assert notes["wide", "kept"] == "zero" and notes["fresh", "kept"] == "as it was"


def test_transplant_with_a_suffix_goes_to_the_layers_of_that_name():
    new = fake(conv1=[np.zeros(2)], conv1color=[np.zeros(2)])
    surgery.transplant(new, fake(conv1=[np.ones(2)]), "color")
    assert new.params["conv1color"][0].data.all() and not new.params["conv1"][0].data.any()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 16, 63, 64])
def test_upsample_filt_is_the_published_kernel(size):
    # The published formula, element by element.
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 == 1 else factor - 0.5
    kernel = [[(1 - abs(y - centre) / factor) * (1 - abs(x - centre) / factor) for x in range(size)]
              for y in range(size)]
    assert np.allclose(surgery.upsample_filt(size), kernel, rtol=0, atol=1e-15)


def test_interp_fills_diagonals_and_groups():
    net = fake(dense=[np.full((3, 3, 4, 4), 9)], grouped=[np.full((3, 1, 3, 3), 9)])
    surgery.interp(net, ["dense", "grouped"])
    for m in range(3):
        for k in range(3):
            wanted = surgery.upsample_filt(4) if m == k else np.zeros((4, 4))
            assert np.allclose(net.params["dense"][0].data[m, k], wanted)
        assert np.allclose(net.params["grouped"][0].data[m, 0], surgery.upsample_filt(3))


def test_one_channel_is_dense_and_grouped_at_once():
    net = fake(up=[np.full((1, 1, 4, 4), 9)])
    surgery.interp(net, ["up"])
    assert np.allclose(net.params["up"][0].data[0, 0], surgery.upsample_filt(4))


@pytest.mark.parametrize("shape, words", [((3, 2, 4, 4), "3 inputs and 2 outputs"), ((3, 3, 4, 5), "4 x 5"),
                                          ((3, 3), "4 axes")])
def test_interp_refuses_what_cannot_upsample(shape, words):
    with pytest.raises(Error, match=words):
        surgery.interp(fake(up=[np.zeros(shape)]), ["up"])


@pytest.mark.parametrize("bias", [(3,), (1, 1, 1, 3)])
def test_expand_score_keeps_the_old_classes(bias):
    rng = np.random.default_rng(2)
    weights, offset = rng.standard_normal((3, 4, 1, 1)), rng.standard_normal(3)
    new = fake(big=[np.full((5, 4, 1, 1), 8), np.full(5, 8)])
    rows = surgery.expand_score(new, "big", fake(score=[weights, offset.reshape(bias)]), "score")
    assert np.array_equal(new.params["big"][0].data[:3], weights.astype(np.float32))
    assert np.array_equal(new.params["big"][1].data, [*offset.astype(np.float32), 8, 8])
    assert (new.params["big"][0].data[3:] == 8).all()
    assert [row.note for row in rows] == ["3 classes of 5"] * 2


def test_expand_score_refuses_fewer_classes_and_other_inputs():
    old = fake(score=[np.zeros((3, 4, 1, 1)), np.zeros(3)])
    with pytest.raises(Error, match="only the number of classes may grow"):
        surgery.expand_score(fake(score=[np.zeros((2, 4, 1, 1)), np.zeros(2)]), "score", old, "score")
    with pytest.raises(Error, match="only the number of classes may grow"):
        surgery.expand_score(fake(score=[np.zeros((5, 6, 1, 1)), np.zeros(5)]), "score", old, "score")
    with pytest.raises(Error, match="did you mean 'score'"):
        surgery.expand_score(old, "scores", old, "score")


# --- the door ---


def test_a_classifier_becomes_an_fcn(classifier, tmp_path, capsys):
    target = fcn(tmp_path / "fcn.prototxt", 10)
    code, out, err = run(capsys, surgery.main, "transplant", *classifier, target, "--out", tmp_path / "fcn.caffemodel")
    assert code == 0, err
    assert out.splitlines()[-1] == "4 copied, 2 coerced, 1 kept"
    old, new = arrays(classifier[1]), arrays(tmp_path / "fcn.caffemodel")
    assert new["fc6"][0].shape == (5, 4, 4, 4) and new["fc8"][0].shape == (10, 5, 1, 1)
    for name in ("conv1", "fc6", "fc8"):
        for a, b in zip(old[name], new[name]):
            assert np.array_equal(a.reshape(-1), b.reshape(-1))
    assert "up" in err and "interp" in err  # still zero: said
    # FC = convolution (section 3.1): both answer the same on an input of the classifier's size.
    before = Net(classifier[0], caffe_pb2.TEST, weights=classifier[1])
    deploy = write(tmp_path / "deploy.prototxt", target.read_text().replace(DATA, INPUT).split('layer { name: "up"')[0])
    after = Net(deploy, caffe_pb2.TEST, weights=tmp_path / "fcn.caffemodel")
    data = np.random.default_rng(1).standard_normal((1, 3, 6, 6))
    for net in (before, after):
        net.blobs["data"].data[...] = data
        net.forward()
    assert np.allclose(before.blobs["fc8"].data.reshape(-1), after.blobs["fc8"].data.reshape(-1), rtol=1e-5, atol=1e-6)


def test_the_written_weights_name_the_whole_net(classifier, tmp_path, capsys):
    target = fcn(tmp_path / "fcn.prototxt", 10)
    run(capsys, surgery.main, "transplant", *classifier, target, "--out", tmp_path / "fcn.caffemodel")
    with read_weights(tmp_path / "fcn.caffemodel") as weights:
        kinds = {layer.name: layer.type for layer in weights.net.layer}
    assert kinds["data"] == "Python" and kinds["loss"] == "SoftmaxWithLoss" and kinds["up"] == "Deconvolution"


def test_a_dry_run_writes_nothing(classifier, tmp_path, capsys):
    target = fcn(tmp_path / "fcn.prototxt", 21)
    before = sorted(tmp_path.iterdir())
    code, out, _ = run(capsys, surgery.main, "transplant", *classifier, target, "--dry-run")
    assert code == 0 and sorted(tmp_path.iterdir()) == before
    lines = [line.split() for line in out.splitlines()]
    assert ["fc6", "0", "coerced", "5x64", "5x4x4x4"] in lines
    assert any(line[:4] == ["fc8", "0", "dropped", "10x5"] for line in lines)
    assert any(line[:3] == ["up", "0", "kept"] for line in lines)
    assert lines[-1] == ["3", "copied,", "1", "coerced,", "2", "dropped,", "3", "kept"]


def test_hdf5_in_and_out(classifier, tmp_path, capsys):
    Net(classifier[0], caffe_pb2.TEST, weights=classifier[1]).save(tmp_path / "c.caffemodel.h5")
    target = fcn(tmp_path / "fcn.prototxt", 10)
    code, _, err = run(capsys, surgery.main, "transplant", classifier[0], tmp_path / "c.caffemodel.h5", target,
                       "--out", tmp_path / "fcn.h5")
    assert code == 0, err
    old, new = arrays(classifier[1])["fc6"][0], arrays(tmp_path / "fcn.h5")["fc6"][0]
    assert np.array_equal(new.reshape(-1), old.reshape(-1))


def test_onto_keeps_what_was_transplanted_before(classifier, tmp_path, capsys):
    target = write(tmp_path / "two.prototxt", INPUT + "".join(
        f'layer {{ name: "conv1{tail}" type: "Convolution" bottom: "data" top: "conv1{tail}" '
        "convolution_param { num_output: 4 kernel_size: 3 } }\n" for tail in ("a", "b")))
    run(capsys, surgery.main, "transplant", *classifier, target, "--suffix", "a", "--out", tmp_path / "a.caffemodel")
    code, _, err = run(capsys, surgery.main, "transplant", *classifier, target, "--suffix", "b",
                       "--onto", tmp_path / "a.caffemodel", "--out", tmp_path / "ab.caffemodel")
    assert code == 0, err
    made = arrays(tmp_path / "ab.caffemodel")
    assert np.array_equal(made["conv1a"][0], made["conv1b"][0]) and made["conv1a"][0].any()


def test_interp_fills_all_deconvolutions(classifier, tmp_path, capsys):
    target = fcn(tmp_path / "fcn.prototxt", 10)
    run(capsys, surgery.main, "transplant", *classifier, target, "--out", tmp_path / "a.caffemodel")
    code, out, err = run(capsys, surgery.main, "interp", target, tmp_path / "a.caffemodel", "--out",
                         tmp_path / "b.caffemodel")
    assert code == 0 and "warning" not in err
    assert "upsamples by 2" in out
    a, b = arrays(tmp_path / "a.caffemodel"), arrays(tmp_path / "b.caffemodel")
    assert np.allclose(b["up"][0][3, 3], surgery.upsample_filt(4)) and not b["up"][0][3, 4].any()
    assert np.array_equal(a["fc6"][0], b["fc6"][0])
    line = refused(capsys, surgery.main, "interp", target, tmp_path / "a.caffemodel", "--layers", "fc8", "--dry-run")
    assert "'fc8' is a Convolution layer" in line


def test_a_net_gets_more_classes(tmp_path, capsys):
    small, large = fcn(tmp_path / "small.prototxt", 3), fcn(tmp_path / "large.prototxt", 5)
    wide = INPUT.replace("dim: 6 dim: 6", "dim: 12 dim: 12")
    net = Net(write(tmp_path / "s.prototxt", small.read_text().replace(DATA, wide).split('layer { name: "loss"')[0]))
    rng = np.random.default_rng(3)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = rng.standard_normal(blob.shape)
    net.save(tmp_path / "small.caffemodel")
    code, out, err = run(capsys, surgery.main, "expand_score", small, tmp_path / "small.caffemodel", large, "--layer",
                         "fc8", "--out", tmp_path / "large.caffemodel")
    assert code == 0, err
    old, new = arrays(tmp_path / "small.caffemodel"), arrays(tmp_path / "large.caffemodel")
    assert np.array_equal(new["fc8"][0][:3], old["fc8"][0]) and not new["fc8"][0][3:].any()
    assert np.array_equal(new["fc8"][1][:3], old["fc8"][1])
    assert np.array_equal(new["conv1"][0], old["conv1"][0])
    assert np.allclose(new["up"][0][4, 4], surgery.upsample_filt(4))
    assert "2 expanded" in out and "1 bilinear" in out
    run(capsys, surgery.main, "expand_score", small, tmp_path / "small.caffemodel", large, "--layer", "fc8",
        "--std", 0.1, "--out", tmp_path / "random.caffemodel")
    new = arrays(tmp_path / "random.caffemodel")
    assert np.array_equal(new["fc8"][0][:3], old["fc8"][0]) and new["fc8"][0][3:].all()


def test_layers_of_the_file_that_the_old_net_lacks_are_dropped(classifier, tmp_path, capsys):
    shorter = write(tmp_path / "shorter.prototxt", CLASSIFIER.split('layer { name: "fc8"')[0])
    target = fcn(tmp_path / "fcn.prototxt", 10)
    code, out, _ = run(capsys, surgery.main, "transplant", shorter, classifier[1], target, "--dry-run")
    assert code == 0 and "no such layer in" in out


@pytest.mark.parametrize("change, code, words", [
    (["transplant", "{n}", "{w}", "{n}"], 2, "--out"),
    (["transplant", "gone.prototxt", "{w}", "{n}", "--dry-run"], 1, "gone.prototxt"),
    (["transplant", "{n}", "gone.caffemodel", "{n}", "--dry-run"], 1, "gone.caffemodel"),
    (["transplant", "{n}", "{n}", "{n}", "--dry-run"], 1, "classifier.prototxt"),
    (["transplant", "{n}", "{w}", "{n}", "--dry-run", "--input", "data"], 2, "--input"),
    (["transplant", "{n}", "{w}", "{n}", "--dry-run", "--input", "dat=1,3,6,6"], 2, "did you mean 'data'"),
    (["interp", "{n}", "{w}", "--dry-run"], 1, "no Deconvolution"),
    (["interp", "{n}", "{w}", "--dry-run", "--layers", "fc9"], 2, "did you mean 'fc"),
    (["expand_score", "{n}", "{w}", "{n}", "--layer", "fc80", "--dry-run"], 2, "did you mean 'fc8'"),
    (["expand_score", "{n}", "{w}", "{n}", "--layer", "fc8", "--std", "-1", "--dry-run"], 2, "--std"),
])
def test_refusals_are_one_line(classifier, capsys, change, code, words):
    arguments = [one.format(n=classifier[0], w=classifier[1]) for one in change]
    assert words in refused(capsys, surgery.main, *arguments, code=code)


def test_truncated_weights_are_refused_and_nothing_is_written(classifier, tmp_path, capsys):
    data = classifier[1].read_bytes()
    (tmp_path / "cut.caffemodel").write_bytes(data[:-20])
    refused(capsys, surgery.main, "transplant", classifier[0], tmp_path / "cut.caffemodel", classifier[0], "--out",
            tmp_path / "out.caffemodel")
    assert not (tmp_path / "out.caffemodel").exists()


def test_an_unknown_operation_and_help(capsys):
    assert run(capsys, surgery.main, "transplnt")[0] == 2
    for operation in ((), ("transplant",), ("interp",), ("expand_score",)):
        code, out, _ = run(capsys, surgery.main, *operation, "--help")
        assert code == 0 and "example" in out


def test_nothing_that_fits_is_an_error(classifier, tmp_path, capsys):
    other = write(tmp_path / "other.prototxt", CLASSIFIER.replace("conv1", "c").replace('"fc', '"f'))
    line = refused(capsys, surgery.main, "transplant", *classifier, other, "--out", tmp_path / "x.caffemodel")
    assert "nothing of" in line and not (tmp_path / "x.caffemodel").exists()


def test_the_pycaffe_face_is_operated_on_too(classifier, tmp_path):
    import caffe

    target = write(tmp_path / "two.prototxt", INPUT + """layer { name: "conv1" type: "Convolution" bottom: "data"
      top: "conv1" convolution_param { num_output: 4 kernel_size: 3 } }""")
    old = caffe.Net(str(classifier[0]), str(classifier[1]), caffe.TEST)
    new = caffe.Net(str(target), caffe.TEST)
    rows = surgery.transplant(new, old)
    assert np.array_equal(new.params["conv1"][0].data, old.params["conv1"][0].data)
    assert actions(rows)[:2] == [("conv1", 0, "copied"), ("conv1", 1, "copied")]
