"""The score door: every image once, plain-loop confusion, its report, files and refusals."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from data import sample
from data.voc import CLASSES, VOC
from layers.core.net import Net
from netspec import caffe_pb2
from netspec.errors import Error
from solvers import score
from tests.data import folders
from tests.solvers.doors import refused, run, write

MEAN = (104.00699, 116.66877, 122.67892)
NET = """
name: "tiny"
layer {{ name: "data" type: "Python" top: "data" top: "label" python_param {{ module: "voc_layers"
  layer: "VOCSegDataLayer" param_str: "{{'voc_dir': '{folder}', 'split': '{split}', 'mean': {mean}, 'seed': 1}}" }} }}
layer {{ name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param {{ num_output: 21 kernel_size: 1 weight_filler {{ type: "gaussian" std: 0.01 }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
  loss_param {{ ignore_label: 255 normalize: false }} }}
"""


@pytest.fixture
def tiny(tmp_path):
    """A VOC folder of 7 pictures, a net over it and weights: (prototxt, caffemodel, VOC folder)."""
    folder = folders.voc(tmp_path / "voc")
    net = write(tmp_path / "tiny" / "val.prototxt", NET.format(folder=folder, split="seg11valid", mean=MEAN))
    made = Net(net, caffe_pb2.TEST, seed=3)
    made.save(tmp_path / "tiny.caffemodel")
    made.close()
    return net, tmp_path / "tiny.caffemodel", folder


def by_hand(tiny):
    """Return (confusion matrix, mean loss) of the tiny net in plain NumPy loops."""
    net = Net(tiny[0], caffe_pb2.TEST, weights=tiny[1])
    weight, bias = (blob.data.astype(np.float64) for blob in net.params["score"])
    net.close()
    hist, losses = np.zeros((21, 21), int), []
    for _, image, label in VOC(tiny[2], "seg11valid"):
        data = image[:, :, ::-1].astype(np.float64) - MEAN
        scores = data @ weight.reshape(21, 3).T + bias
        log = scores - scores.max(2, keepdims=True)
        log -= np.log(np.exp(log).sum(2, keepdims=True))
        loss = 0.0
        for y in range(label.shape[0]):
            for x in range(label.shape[1]):
                if label[y, x] != 255:
                    hist[label[y, x], scores[y, x].argmax()] += 1
                    loss -= log[y, x, label[y, x]]
        losses.append(loss)
    return hist, np.mean(losses)


def test_scores_every_image_once(tiny, capsys, tmp_path):
    code, out, err = run(capsys, score.main, tiny[0], tiny[1], "--json", tmp_path / "report.json")
    assert code == 0, err
    hist, loss = by_hand(tiny)
    report = json.loads((tmp_path / "report.json").read_text())
    head = report["heads"][0]
    assert np.abs(np.array(head["hist"]) - hist).sum() <= 2  # a pixel on a tie may round the other way
    assert report["loss"] == pytest.approx(loss, rel=1e-5)
    assert report["loss_per_pixel"]["loss"] == pytest.approx(loss * 7 / hist.sum(), rel=1e-5)
    assert (report["images"], report["iterations"], report["split"]) == (7, 7, "seg11valid")
    right = np.diag(hist)
    union = right / (hist.sum(0) + hist.sum(1) - right)
    assert head["mean_iu"] == pytest.approx(union.mean(), abs=2e-3)
    assert head["pixel_accuracy"] == pytest.approx(right.sum() / hist.sum(), abs=2e-3)
    assert "split    seg11valid, 7 images" in out
    assert all(name in out for name in CLASSES)
    for title in ("pixel accuracy", "mean accuracy", "mean IU", "frequency weighted IU"):
        assert re.search(rf"^{title} +\d\.\d{{4}}$", out, re.M)
    assert "absent from truth" in out
    assert err == ""  # no bar where nobody watches


def test_a_training_split_is_visited_in_order_too(tiny, capsys, tmp_path):
    run(capsys, score.main, tiny[0], tiny[1], "--json", tmp_path / "a.json")
    code, _, err = run(capsys, score.main, tiny[0], tiny[1], "--split", "train", "--json", tmp_path / "b.json")
    assert code == 0, err
    a, b = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert b["split"] == "train"
    assert a["heads"][0]["hist"] == b["heads"][0]["hist"]


def test_iterations_stop_early(tiny, capsys, tmp_path):
    run(capsys, score.main, tiny[0], tiny[1], "--iterations", 2, "--json", tmp_path / "a.json")
    labels = [label for _, _, label in VOC(tiny[2], "seg11valid")][:2]
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["heads"][0]["pixels"] == sum(int((label != 255).sum()) for label in labels)


def test_data_option_moves_the_folder(tiny, capsys, tmp_path):
    elsewhere = folders.voc(tmp_path / "elsewhere", count=3)
    code, out, err = run(capsys, score.main, tiny[0], tiny[1], "--data", f"voc_dir={elsewhere}")
    assert code == 0, err
    assert "seg11valid, 3 images" in out


def test_save_writes_predictions_and_a_page(tiny, capsys, tmp_path):
    log = write(tmp_path / "train.log", "".join(
        f"I1120 13:39:22.381027 25210 solver.cpp:218] Iteration {i} (3 iter/s, 6s/20 iters), loss = {9 / (i + 1)}\n"
        for i in range(0, 100, 20)))
    out = tmp_path / "out"
    code, _, err = run(capsys, score.main, tiny[0], tiny[1], "--save", out, "--log", log, "--shown", 3)
    assert code == 0, err
    names = sorted(path.name for path in (out / "predictions").iterdir())
    assert names == [f"2007_{number:06d}.png" for number in range(7)]
    with Image.open(out / "predictions" / names[0]) as picture:
        assert picture.mode == "P" and picture.size == folders.pair(0)[1].shape[::-1]
    page = (out / "index.html").read_text()
    assert page.count("<figcaption>prediction") == 3
    assert "9 at iteration 0" in page
    assert (out / "sheet.png").exists()


def test_excluded_classes_leave_the_means(tiny, capsys, tmp_path):
    run(capsys, score.main, tiny[0], tiny[1], "--exclude", "background,3", "--json", tmp_path / "a.json")
    head = json.loads((tmp_path / "a.json").read_text())["heads"][0]
    assert head["excluded"] == [0, 3]
    kept = [value for i, value in enumerate(head["class_iu"]) if i not in (0, 3) and value is not None]
    assert head["mean_iu"] == pytest.approx(np.mean(kept))
    assert "unknown class 'backgrund'" in refused(capsys, score.main, tiny[0], tiny[1], "--exclude", "backgrund", code=2)


TWO_HEADS = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 2 dim: 3 dim: 4 }} }} }}
layer {{ name: "sem" type: "Input" top: "sem" input_param {{ shape {{ dim: 1 dim: 1 dim: 3 dim: 4 }} }} }}
layer {{ name: "geo" type: "Input" top: "geo" input_param {{ shape {{ dim: 1 dim: 1 dim: 3 dim: 4 }} }} }}
layer {{ name: "score_sem" type: "Scale" bottom: "data" top: "score_sem" scale_param {{ filler {{ value: 1 }} }} }}
layer {{ name: "score_geo" type: "Scale" bottom: "data" top: "score_geo" scale_param {{ filler {{ value: -1 }} }} }}
layer {{ name: "l1" type: "SoftmaxWithLoss" bottom: "score_sem" bottom: "sem" top: "l1" }}
layer {{ name: "l2" type: "SoftmaxWithLoss" bottom: "score_geo" bottom: "geo" top: "l2" loss_weight: 0.5 }}
""".replace("{{", "{").replace("}}", "}")


def two_heads(tmp_path):
    path = write(tmp_path / "two.prototxt", TWO_HEADS)
    net = Net(path, caffe_pb2.TEST)
    net.save(tmp_path / "two.caffemodel")
    rng = np.random.default_rng(1)
    net.blobs["data"].data[...] = rng.standard_normal((1, 2, 3, 4))
    net.blobs["sem"].data[...] = rng.integers(0, 2, (1, 1, 3, 4))
    net.blobs["geo"].data[...] = rng.integers(0, 2, (1, 1, 3, 4))
    return path, net


def test_several_heads_are_counted_apart(tmp_path):
    _, net = two_heads(tmp_path)
    (sem, geo), loss = score.score_heads(net, 2, [("score_sem", "sem"), ("score_geo", "geo")])
    guess = net.blobs["data"].data.argmax(1).reshape(-1)
    for hist, name, predicted in ((sem, "sem", guess), (geo, "geo", 1 - guess)):
        expected = np.zeros((2, 2), int)
        for truth, one in zip(net.blobs[name].data.reshape(-1).astype(int), predicted):
            expected[truth, one] += 2
        assert np.array_equal(hist, expected)
    assert loss == pytest.approx(float(net.blobs["l1"].data) + 0.5 * float(net.blobs["l2"].data), rel=1e-6)


def test_heads_are_found_from_the_losses(tmp_path, capsys):
    path, _ = two_heads(tmp_path)
    code, out, err = run(capsys, score.main, path, tmp_path / "two.caffemodel", "--iterations", 1)
    assert code == 0, err
    assert "score_sem against sem" in out and "score_geo against geo" in out
    code, out, _ = run(capsys, score.main, path, tmp_path / "two.caffemodel", "--iterations", 1,
                       "--score", "score_geo", "--label", "geo")
    assert code == 0 and "against" not in out


class Solver:
    """What `seg_tests` wants of a solver."""

    def __init__(self, net, test_net):
        self.net, self.test_nets, self.iter = net, [test_net], 40


def test_seg_tests_scores_the_weights_in_training(tiny, tmp_path, capsys):
    net, test_net = Net(tiny[0], caffe_pb2.TRAIN, seed=3), Net(tiny[0], caffe_pb2.TEST, seed=9)
    ids = [f"2007_{number:06d}" for number in range(7)]
    hist = score.seg_tests(Solver(net, test_net), str(tmp_path / "seg{}"), ids)
    assert np.abs(hist - by_hand(tiny)[0]).sum() <= 2
    out = capsys.readouterr().out
    assert re.search(r"^>>> .* Begin seg tests$", out, re.M)
    for words in ("loss", "overall accuracy", "mean accuracy", "mean IU", "fwavacc"):
        assert re.search(rf"^>>> .* Iteration 40 {words} [\d.]+$", out, re.M)
    assert sorted(path.stem for path in (tmp_path / "seg40").iterdir()) == ids
    listed = write(tmp_path / "list.txt", "\n".join(ids))
    assert np.array_equal(score.do_seg_tests(test_net, 0, False, listed), hist)
    assert np.array_equal(score.do_seg_tests(test_net, 0, False, 7), hist)
    for made in (net, test_net):
        made.close()


def test_nan_scores_are_refused(tmp_path):
    _, net = two_heads(tmp_path)
    net.params["score_sem"][0].data[1] = np.nan
    with pytest.raises(Error, match="'score_sem' holds NaN"):
        score.score_net(net, 1, "score_sem", "sem")


def test_a_label_of_another_size_is_refused(tmp_path):
    _, net = two_heads(tmp_path)
    with pytest.raises(Error, match="does not fit"):
        score.score_net(net, 1, "score_sem", "data")


@pytest.mark.parametrize("change, code, words", [
    (["nets/none.prototxt", "{w}"], 1, "nets/none.prototxt"),
    (["fcn9s", "{w}"], 2, "did you mean 'fcn"),
    (["{n}", "none.caffemodel"], 1, "none.caffemodel"),
    (["{n}", "{n}"], 1, "caffemodel"),
    (["{n}", "{w}", "--split", "val"], 1, "seg11valid"),
    (["{n}", "{w}", "--data", "voc_dri=x"], 1, "did you mean 'voc_dir'"),
    (["{n}", "{w}", "--data", "voc_dir"], 2, "KEY=VALUE"),
    (["{n}", "{w}", "--score", "scroe"], 2, "did you mean 'score'"),
    (["{n}", "{w}", "--score", "score,score", "--label", "label"], 2, "as many"),
    (["{n}", "{w}", "--exclude", "aeroplnae"], 2, "unknown class 'aeroplnae'"),
    (["{n}", "{w}", "--exclude", "99"], 2, "class 99 in exclude is outside"),
])
def test_refusals_are_one_line(tiny, capsys, monkeypatch, change, code, words):
    arguments = [one.format(n=tiny[0], w=tiny[1]) for one in change]
    # Said before a net is run, which may take hours.
    monkeypatch.setattr(score, "score_heads", lambda *arguments: pytest.fail("scored first"))
    assert words in refused(capsys, score.main, *arguments, code=code)


def test_truncated_and_foreign_weights_are_refused(tiny, capsys, tmp_path):
    data = tiny[1].read_bytes()
    (tmp_path / "cut.caffemodel").write_bytes(data[:len(data) // 2])
    assert "cut.caffemodel" in refused(capsys, score.main, tiny[0], tmp_path / "cut.caffemodel")
    _, net = two_heads(tmp_path)
    assert "matches no layer" in refused(capsys, score.main, tiny[0], tmp_path / "two.caffemodel")
    wide = write(tmp_path / "wide.prototxt", tiny[0].read_text().replace("num_output: 21", "num_output: 22"))
    assert "[22, 3, 1, 1]" in refused(capsys, score.main, wide, tiny[1])


def test_an_unknown_option_and_help(capsys):
    code, _, err = run(capsys, score.main, "net", "weights", "--splt", "x")
    assert code == 2
    code, out, _ = run(capsys, score.main, "--help")
    assert code == 0 and "example:" in out


def test_seg_tests_through_the_pycaffe_face(tiny, tmp_path, capsys):
    import caffe

    path = write(tmp_path / "solver.prototxt", f"""train_net: "{tiny[0]}" test_net: "{tiny[0]}" test_iter: 7
      test_interval: 999999999 test_initialization: false base_lr: 0 lr_policy: "fixed" max_iter: 1
      random_seed: 3 snapshot_after_train: false snapshot_prefix: "{tmp_path}/x" """)
    solver = caffe.SGDSolver(str(path))
    solver.net.copy_from(str(tiny[1]))
    hist = score.seg_tests(solver, False, 7)
    assert np.abs(hist - by_hand(tiny)[0]).sum() <= 2
    assert "Iteration 0 mean IU" in capsys.readouterr().out
    for net in (solver.net, *solver.test_nets):
        net.close()


def test_the_sample_data_set_is_scored(tmp_path, capsys, monkeypatch):
    sample.draw(tmp_path / "sample", 2, 3)
    monkeypatch.setattr(sample, "DEFAULT", str(tmp_path / "sample"))
    text = NET.format(folder="nowhere", split="seg11valid", mean=MEAN).replace("num_output: 21", "num_output: 6")
    net = write(tmp_path / "val.prototxt", text)
    deploy = text.replace(text[text.index("layer {"):text.index('layer { name: "score"')], """layer { name: "data"
      type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }""")
    Net(write(tmp_path / "deploy.prototxt", deploy.split('layer { name: "loss"')[0])).save(tmp_path / "w.caffemodel")
    assert "nowhere" in refused(capsys, score.main, net, tmp_path / "w.caffemodel")
    code, out, err = run(capsys, score.main, net, tmp_path / "w.caffemodel", "--sample")
    assert code == 0, err
    assert "3 images" in out and all(name in out for name in sample.CLASSES)


SIFT_FLOW = """
name: "two"
layer {{ name: "data" type: "Python" top: "data" top: "sem" top: "geo" python_param {{ module: "siftflow_layers"
  layer: "SIFTFlowSegDataLayer" param_str: "{{'siftflow_dir': '{folder}', 'split': 'test', 'seed': 1}}" }} }}
layer {{ name: "score_sem" type: "Convolution" bottom: "data" top: "score_sem"
  convolution_param {{ num_output: 33 kernel_size: 1 weight_filler {{ type: "gaussian" std: 0.01 }} }} }}
layer {{ name: "score_geo" type: "Convolution" bottom: "data" top: "score_geo"
  convolution_param {{ num_output: 3 kernel_size: 1 weight_filler {{ type: "gaussian" std: 0.01 }} }} }}
layer {{ name: "loss_sem" type: "SoftmaxWithLoss" bottom: "score_sem" bottom: "sem" top: "loss_sem"
  loss_param {{ ignore_label: 255 normalize: false }} }}
layer {{ name: "loss_geo" type: "SoftmaxWithLoss" bottom: "score_geo" bottom: "geo" top: "loss_geo"
  loss_param {{ ignore_label: 255 normalize: false }} }}
"""


def test_siftflow_is_scored_with_both_heads_without_the_classes_its_truth_does_not_hold(tmp_path, capsys):
    folder = folders.siftflow(tmp_path / "sift", semantic=31)
    net = write(tmp_path / "two" / "test.prototxt", SIFT_FLOW.format(folder=folder))
    made = Net(net, caffe_pb2.TEST, seed=3)
    made.save(tmp_path / "two.caffemodel")
    made.close()
    out = run(capsys, score.main, net, tmp_path / "two.caffemodel", "--save", tmp_path / "page", "--json", tmp_path / "a.json")
    sem, geo = json.loads((tmp_path / "a.json").read_text())["heads"]
    assert sem["excluded"] == [31, 32] and sem["names"][31] == "tree" and geo["names"] == ["sky", "horizontal", "vertical"]
    assert geo["excluded"] == [] and len(sem["hist"]) == 33 and np.isclose(sem["mean_iu"], np.mean(sem["class_iu"][:31]))
    assert "2 classes excluded from the two class means: tree, window" in str(out)
    assert (tmp_path / "page" / "predictions" / "coast_natu975_1.png").exists() and (tmp_path / "page" / "index.html").exists()


def test_what_training_draws_is_not_scored(tiny, tmp_path, capsys):
    text = tiny[0].read_text().replace("seg11valid", "train").replace("'seed': 1", "'mirror': True, 'jitter': 3, 'sampling': .5")
    other = write(tmp_path / "drawn" / "val.prototxt", text)
    run(capsys, score.main, tiny[0], tiny[1], "--json", tmp_path / "a.json")
    run(capsys, score.main, other, tiny[1], "--json", tmp_path / "b.json")
    first, second = (json.loads((tmp_path / name).read_text())["heads"][0]["hist"] for name in ("a.json", "b.json"))
    assert first == second
