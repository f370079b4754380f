"""Whole small nets of layers that Caffe's forks have: SegNet's encoder and decoder, SSD's head, a squeezed MobileNet block."""

import logging
import re

import numpy as np
import pytest

from layers.core.net import Net
from netspec import caffe_pb2, text, weights
from netspec.errors import Error, UnknownName
from tests.layers.opencv import OpenCV

TRAIN, TEST = caffe_pb2.TRAIN, caffe_pb2.TEST
RNG = np.random.RandomState(0)


def net_of(prototxt, phase=TEST, **options):
    return Net(text.parse(prototxt, caffe_pb2.NetParameter()), phase, seed=3, **options)


def layer(name, kind, bottoms, tops, more=""):
    ends = " ".join([f'bottom: "{name}"' for name in bottoms.split()] + [f'top: "{name}"' for name in tops.split()])
    return f'layer {{ name: "{name}" type: "{kind}" {ends} {more} }}\n'


def conv(name, bottom, outputs, kernel=3):
    return layer(name, "Convolution", bottom, name, f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} "
                 f'pad: {kernel // 2} weight_filler {{ type: "msra" }} }}')


def normalised(name, mode):
    """As in SegNet's files: BN and ReLU work in place."""
    return layer(f"{name}_bn", "BN", name, name, 'bn_param { scale_filler { type: "constant" value: 1 } shift_filler { '
                 f'type: "constant" value: 0.001 }} bn_mode: {mode} }}') + layer(f"{name}_relu", "ReLU", name, name)


def pooled(name, bottom):
    return layer(name, "Pooling", bottom, f"{name} {name}_mask", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")


def segnet(mode, loss=True):
    """Two steps down from 11 x 9 pixels and two up."""
    return "".join([
        layer("data", "Input", "", "data label" if loss else "data", "input_param { shape { dim: 2 dim: 3 dim: 11 dim: 9 } "
              + "shape { dim: 2 dim: 1 dim: 11 dim: 9 } " * loss + "}"),
        conv("conv1", "data", 4), normalised("conv1", mode), pooled("pool1", "conv1"),
        conv("conv2", "pool1", 5), normalised("conv2", mode), pooled("pool2", "conv2"),
        layer("up2", "Upsample", "pool2 pool2_mask", "up2", "upsample_param { scale: 2 upsample_w: 5 upsample_h: 6 }"),
        conv("conv2_d", "up2", 4), normalised("conv2_d", mode),
        layer("up1", "Upsample", "conv2_d pool1_mask", "up1", "upsample_param { scale: 2 pad_out_h: true pad_out_w: true }"),
        conv("score", "up1", 3),
        layer("loss", "SoftmaxWithLoss", "score label", "loss") * loss])


def feed(net):
    net.blobs["data"].data[...] = RNG.randn(2, 3, 11, 9)
    if "label" in net.blobs:
        net.blobs["label"].data[...] = RNG.randint(0, 3, (2, 1, 11, 9))


def test_segnet_learns_with_right_gradients():
    net = net_of(segnet("LEARN"), TRAIN, dtype=np.float64)
    feed(net)
    net.clear_param_diffs()
    before = net.forward_backward()
    for name in ("conv1", "conv1_bn", "conv2_d", "conv2_d_bn", "score"):
        for blob in net.params[name]:
            place = np.unravel_index(RNG.randint(blob.count), blob.shape)
            kept, found = blob.data[place], blob.diff[place]
            losses = []
            for step in (1e-6, -1e-6):
                blob.data[place] = kept + step
                losses.append(net.forward())
            blob.data[place] = kept
            assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(found, abs=1e-6), name
    for _ in range(40):
        net.clear_param_diffs()
        after = net.forward_backward()
        for blob in net.learnable_params:
            blob.data[...] -= 0.2 * blob.diff
    assert after < 0.8 * before


def test_statistics_folded_as_segnets_tool_does_give_the_same_scores(tmp_path):
    learned = net_of(segnet("LEARN"), TRAIN)
    feed(learned)
    learned.forward()
    scores, arrays = learned.blobs["score"].data.copy(), {}
    for name, blobs in learned.params.items():
        values = [blob.data.copy() for blob in blobs]
        if name.endswith("_bn"):
            bn = learned.layer_dict[name]
            factors = values[0].ravel() * bn.inverse
            values = [factors.reshape(1, -1, 1, 1), values[1] - (bn.mean * factors).reshape(1, -1, 1, 1)]
        arrays[name] = [(value.astype("f4"), None) for value in values]
    weights.write_caffemodel(tmp_path / "it.caffemodel", learned.param, arrays)
    for reads_back in (net_of(segnet("INFERENCE", loss=False), weights=tmp_path / "it.caffemodel"),
                       net_of(segnet("INFERENCE", loss=False), weights=tmp_path / "it.caffemodel", low_memory=True)):
        assert not reads_back.weights_report.untouched
        reads_back.blobs["data"].data[...] = learned.blobs["data"].data
        reads_back.forward()
        np.testing.assert_allclose(reads_back.blobs["score"].data, scores, atol=1e-4)


def mbox(source, step):
    """SSD's head on one feature map: locations, confidences, boxes."""
    return "".join([
        conv(f"{source}_loc", source, 4 * 4), layer(f"{source}_loc_perm", "Permute", f"{source}_loc", f"{source}_loc_perm",
                                                    "permute_param { order: 0 order: 2 order: 3 order: 1 }"),
        layer(f"{source}_loc_flat", "Flatten", f"{source}_loc_perm", f"{source}_loc_flat", "flatten_param { axis: 1 }"),
        conv(f"{source}_conf", source, 4 * 3), layer(f"{source}_conf_perm", "Permute", f"{source}_conf", f"{source}_conf_perm",
                                                     "permute_param { order: 0 order: 2 order: 3 order: 1 }"),
        layer(f"{source}_conf_flat", "Flatten", f"{source}_conf_perm", f"{source}_conf_flat", "flatten_param { axis: 1 }"),
        layer(f"{source}_boxes", "PriorBox", f"{source} data", f"{source}_boxes", "prior_box_param { min_size: 12 max_size: 20 "
              f"aspect_ratio: 2 clip: false variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 step: {step} }}")])


SSD = "".join([
    layer("data", "Input", "", "data", "input_param { shape { dim: 2 dim: 3 dim: 32 dim: 40 } }"),
    layer("conv1", "Convolution", "data", "conv1", "convolution_param { num_output: 6 kernel_size: 3 pad: 1 stride: 4 "
          'weight_filler { type: "msra" } }'),
    layer("relu1", "ReLU", "conv1", "conv1"),
    layer("norm", "Normalize", "conv1", "norm", "norm_param { across_spatial: false channel_shared: false scale_filler { "
          'type: "constant" value: 2 } }'),
    layer("conv2", "Convolution", "conv1", "conv2", "convolution_param { num_output: 8 kernel_size: 3 pad: 1 stride: 2 "
          'weight_filler { type: "msra" } }'),
    layer("relu2", "ReLU", "conv2", "conv2"), mbox("norm", 4), mbox("conv2", 8),
    layer("loc", "Concat", "norm_loc_flat conv2_loc_flat", "loc"),
    layer("conf", "Concat", "norm_conf_flat conv2_conf_flat", "conf"),
    layer("boxes", "Concat", "norm_boxes conv2_boxes", "boxes", "concat_param { axis: 2 }"),
    layer("conf_rows", "Reshape", "conf", "conf_rows", "reshape_param { shape { dim: 0 dim: -1 dim: 3 } }"),
    layer("conf_soft", "Softmax", "conf_rows", "conf_soft", "softmax_param { axis: 2 }"),
    layer("conf_flat", "Flatten", "conf_soft", "conf_flat", "flatten_param { axis: 1 }"),
    layer("found", "DetectionOutput", "loc conf_flat boxes", "found", "detection_output_param { num_classes: 3 "
          "share_location: true background_label_id: 0 nms_param { nms_threshold: 0.45 top_k: 100 } "
          "code_type: CENTER_SIZE keep_top_k: 50 confidence_threshold: 0.01 }")])


def test_ssds_head_finds_what_opencv_finds(tmp_path):
    net = net_of(SSD)
    net.blobs["data"].data[...] = 0.3 * RNG.randn(2, 3, 32, 40)
    net.forward()
    found = net.blobs["found"].data[0, 0]
    assert found.shape == (100, 7) and set(found[:, 0]) == {0, 1}
    arrays = {name: [(blob.data, None) for blob in blobs] for name, blobs in net.params.items()}
    weights.write_caffemodel(tmp_path / "ssd.caffemodel", net.param, arrays)
    engine = OpenCV(SSD.encode(), (tmp_path / "ssd.caffemodel").read_bytes())
    theirs = engine.forward({"data": net.blobs["data"].data}, "found").reshape(-1, 7)
    order = [np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0])) for rows in (found, theirs)]
    np.testing.assert_allclose(found[order[0]], theirs[order[1]], rtol=1e-4, atol=1e-4)


BLOCK = "".join([
    layer("data", "Input", "", "data", "input_param { shape { dim: 2 dim: 6 dim: 9 dim: 7 } }"),
    layer("dw", "DepthwiseConvolution", "data", "dw", "convolution_param { num_output: 6 kernel_size: 3 pad: 1 bias_term: false "
          'weight_filler { type: "msra" } }'),
    layer("dw_bn", "BN", "dw", "dw", "bn_param { slope_filler { value: 3 } frozen: true }"), layer("relu", "ReLU6", "dw", "dw"),
    layer("squeeze", "Pooling", "dw", "squeeze", "pooling_param { pool: AVE global_pooling: true }"),
    conv("excite", "squeeze", 6, 1), layer("gate", "Sigmoid", "excite", "excite"),
    layer("scaled", "Axpy", "excite dw data", "scaled"),
    layer("pyramid", "Pooling", "scaled", "pyramid", "pooling_param { pool: AVE kernel_size: 3 stride: 3 }"),
    layer("wide", "Interp", "pyramid scaled", "wide"), layer("all", "Concat", "scaled wide", "all")])


def test_a_block_of_many_forks_has_right_gradients():
    net = net_of("force_backward: true\n" + BLOCK, TRAIN, dtype=np.float64)
    x, weight = net.blobs["data"].data, RNG.randn(2, 12, 9, 7)
    x[...] = RNG.randn(*x.shape)
    net.forward()
    net.blobs["all"].diff[...] = weight
    net.clear_param_diffs()
    net.backward()
    for values, gradient in ((x, net.blobs["data"].diff.copy()), (net.params["dw"][0].data, net.params["dw"][0].diff.copy())):
        for _ in range(4):
            place = np.unravel_index(RNG.randint(values.size), values.shape)
            kept, sums = values[place], []
            for step in (1e-6, -1e-6):
                values[place] = kept + step
                net.forward()
                sums.append((net.blobs["all"].data * weight).sum())
            values[place] = kept
            assert (sums[0] - sums[1]) / 2e-6 == pytest.approx(gradient[place], rel=1e-6, abs=1e-6)


def test_a_net_drops_unknown_fields_on_request(tmp_path, caplog):
    path = tmp_path / "net.prototxt"
    path.write_text('layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 } } }\n'
                    'layer { name: "soft" type: "Softmax" bottom: "data" top: "soft"\n  softmax_param { axis: 0 temperatur: 2 } '
                    "}\n")
    with pytest.raises(Error, match=re.escape(f"{path}:3:27: unknown field 'temperatur' in SoftmaxParameter")):
        Net(path)
    with caplog.at_level(logging.WARNING, "deepjet"):
        net = Net(path, allow_unknown=True)
    assert net.dropped == [f"{path}:3:27: dropped unknown field 'temperatur' in SoftmaxParameter"]
    assert net.dropped[0] in caplog.text
    net.forward()
    path.write_text(path.read_text().replace('"Softmax"', '"Softmex"'))
    with pytest.raises(UnknownName, match=r"unknown layer type 'Softmex'; did you mean 'Softmax'\?.*net.prototxt:2"):
        Net(path, allow_unknown=True)
    assert net_of('layer { name: "a" type: "Input" top: "a" input_param { shape { dim: 1 } } }').dropped == []
