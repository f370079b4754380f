"""What Caffe's net does around its layers: which run backward, what is shared, what is copied, what is refused."""

import numpy as np
import pytest
from google.protobuf import text_format

from layers.core.cpu import choose
from layers.core.net import Net
from netspec import caffe_pb2
from netspec.errors import Error

DATA = 'layer { name: "in" type: "Input" top: "data" top: "label" input_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }'
IP = """layer { name: "%s" type: "InnerProduct" bottom: "%s" top: "%s" %s
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }"""
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "%s" bottom: "label" top: "loss" %s }'


def make(*layers, phase=caffe_pb2.TRAIN, seed=1, head="", **options):
    return Net(text_format.Parse(head + "\n".join(layers), caffe_pb2.NetParameter()), phase, seed=seed, **options)


def ip(name, bottom, top=None, extra=""):
    return IP % (name, bottom, top or name, extra)


def run(net, seed=3):
    rng = np.random.RandomState(seed)
    net.blobs["data"].data[...] = rng.randn(*net.blobs["data"].shape)
    net.blobs["label"].data[...] = rng.randint(0, 3, net.blobs["label"].shape)
    net.clear_param_diffs()
    return net.forward_backward()


def test_same_seed_gives_same_parameters_and_other_seed_others():
    a, b, c = (make(DATA, ip("a", "data"), seed=s) for s in (1, 1, 2))
    assert (a.params["a"][0].data == b.params["a"][0].data).all()
    assert (a.params["a"][0].data != c.params["a"][0].data).all()


def test_split_is_inserted_and_gradients_are_summed():
    net = make(DATA, ip("a", "data"), ip("b", "a"), ip("c", "a"),
               'layer { name: "sum" type: "Eltwise" bottom: "b" bottom: "c" top: "sum" }', LOSS % ("sum", ""))
    assert "a_a_0_split_0" in net.blobs and "a_a_0_split" in net.layer_names
    run(net)
    total = net.blobs["a_a_0_split_0"].diff + net.blobs["a_a_0_split_1"].diff
    assert np.allclose(net.blobs["a"].diff, total) and abs(total).max() > 0


def test_nothing_is_computed_below_what_is_frozen():
    frozen = "param { lr_mult: 0 } param { lr_mult: 0 }"
    net = make(DATA, ip("a", "data", extra=frozen), ip("b", "a", extra=frozen), ip("c", "b"), LOSS % ("c", ""))
    run(net)
    need = dict(zip(net.layer_names, net.layer_need_backward))
    assert need == {"in": False, "a": False, "b": False, "c": True, "loss": True}
    assert not net.params["a"][0].has_diff and not net.blobs["b"].has_diff
    assert net.params["c"][0].diff.any()


def test_a_frozen_parameter_above_a_learning_one_passes_gradients_but_keeps_none():
    net = make(DATA, ip("a", "data"), ip("b", "a", extra="param { lr_mult: 0 } param { lr_mult: 0 }"), LOSS % ("b", ""))
    run(net)
    assert net.params["a"][0].diff.any() and not net.params["b"][0].has_diff


def test_layers_that_reach_no_loss_have_no_backward():
    net = make(DATA, ip("a", "data"), LOSS % ("a", ""), ip("side", "data"))
    assert dict(zip(net.layer_names, net.layer_need_backward))["side"] is False
    assert net.outputs == ["loss", "side"] and net.inputs == ["data", "label"]


def test_propagate_down_stops_the_gradient():
    net = make(DATA, ip("a", "data"), ip("b", "a", extra="propagate_down: false"), LOSS % ("b", ""))
    run(net)
    assert net.params["b"][0].diff.any() and not net.params["a"][0].has_diff
    with pytest.raises(Error, match="propagate_down is given 2 times for 1 bottoms"):
        make(DATA, ip("a", "data", extra="propagate_down: true propagate_down: false"))


def test_force_backward_reaches_the_data_but_not_the_label():
    net = make(DATA, ip("a", "data"), LOSS % ("a", ""), head="force_backward: true ")
    run(net)
    assert net.blobs["data"].diff.any() and not net.blobs["label"].has_diff


def test_loss_weights_scale_loss_and_gradient():
    one, five = (make(DATA, ip("a", "data"), LOSS % ("a", f"loss_weight: {w}")) for w in (1, 5))
    assert run(five) == pytest.approx(5 * run(one), rel=1e-6)
    assert np.allclose(five.params["a"][0].diff, 5 * one.params["a"][0].diff, rtol=1e-5)
    with pytest.raises(Error, match="loss_weight is given 3 times"):
        make(DATA, ip("a", "data"), LOSS % ("a", "loss_weight: 1 loss_weight: 1 loss_weight: 1"))


def test_backward_adds_to_parameter_gradients():
    net = make(DATA, ip("a", "data"), LOSS % ("a", ""))
    run(net)
    once = net.params["a"][0].diff.copy()
    net.forward_backward()
    assert np.allclose(net.params["a"][0].diff, 2 * once, rtol=1e-6)
    net.clear_param_diffs()
    assert not net.params["a"][0].diff.any()


def test_parameters_of_one_name_are_one_parameter():
    shared = 'param { name: "w" lr_mult: 2 } param { name: "b" }'
    again = 'param { name: "w" } param { name: "b" }'
    net = make(DATA, ip("a", "data", extra=shared), ip("b", "a", extra=again), LOSS % ("b", ""))
    assert len(net.learnable_params) == 2 and net.params_lr == [2, 1]
    net.params["a"][0].data[...] = 0.5
    assert (net.params["b"][0].data == 0.5).all()
    run(net)
    assert (net.params["a"][0].diff == net.params["b"][0].diff).all()
    with pytest.raises(Error, match="lr_mult 3, but it was given 2"):
        make(DATA, ip("a", "data", extra=shared), ip("b", "a", extra='param { name: "w" lr_mult: 3 }'))
    with pytest.raises(Error, match=r"shares parameter 'w'.*\[3, 5\] is not \[3, 3\]"):
        make(DATA, ip("a", "data", extra=shared),
             'layer { name: "r" type: "Input" top: "r" input_param { shape { dim: 2 dim: 5 } } }',
             ip("b", "r", extra='param { name: "w" }'))


def test_rules_choose_layers_by_phase_level_and_stage():
    layers = [DATA, ip("a", "data"), ip("t", "a", extra="include { phase: TEST }"), ip("s", "a", extra='include { stage: "x" }'),
              ip("l", "a", extra="include { min_level: 2 }")]
    assert make(*layers).layer_names == ["in", "a"]
    assert "t" in make(*layers, phase=caffe_pb2.TEST).layer_names
    assert "s" in make(*layers, stages=["x"]).layer_names and "l" in make(*layers, level=2).layer_names


def test_every_image_may_have_its_own_size():
    net = make('layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 5 dim: 6 } } }',
               'layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { kernel_size: 2 stride: 2 } }')
    net.forward()
    assert net.blobs["p"].shape == (1, 2, 3, 3)
    net.blobs["data"].reshape(1, 2, 9, 4)
    net.blobs["data"].data[...] = 1
    net.forward()
    assert net.blobs["p"].shape == (1, 2, 5, 2) and (net.blobs["p"].data == 1).all()


def test_forward_and_backward_of_a_part():
    net = make(DATA, ip("a", "data"), ip("b", "a"), LOSS % ("b", ""))
    run(net)
    net.blobs["a"].data[...] = 0
    assert net.forward("b", "loss") == pytest.approx(np.log(3), rel=1e-5)
    net.blobs["a"].diff[...] = 7
    net.backward("loss", "loss")
    assert (net.blobs["a"].diff == 7).all()
    with pytest.raises(Error, match="no layer 'lost'.*did you mean 'loss'"):
        net.forward("lost")


def test_weights_are_copied_by_name_and_reported(tmp_path):
    net = make(DATA, ip("a", "data"), ip("old", "a"))
    net.save(tmp_path / "x.caffemodel")
    net.save(tmp_path / "x.caffemodel.h5")
    for file in ("x.caffemodel", "x.caffemodel.h5"):
        other = make(DATA, ip("a", "data"), ip("new", "a"), seed=9)
        report = other.copy_from(tmp_path / file)
        assert (report.copied, report.ignored, report.untouched) == (["a"], ["old"], ["new"])
        assert (other.params["a"][0].data == net.params["a"][0].data).all()


def test_shapes_that_do_not_fit_show_both(tmp_path):
    make(DATA, ip("a", "data")).save(tmp_path / "x.caffemodel")
    text = DATA + ip("a", "data").replace("num_output: 3", "num_output: 4")
    (tmp_path / "net.prototxt").write_text(DATA + "\n" + text[len(DATA):])
    net = Net(tmp_path / "net.prototxt", caffe_pb2.TEST)
    with pytest.raises(Error, match=r"'a' \(.*net.prototxt:2\), parameter 0: shape \[4, 3\], but \[3, 3\] in .*x.caffemo"):
        net.copy_from(tmp_path / "x.caffemodel")


def test_share_with_uses_the_same_memory():
    train, test = make(DATA, ip("a", "data")), make(DATA, ip("a", "data"), phase=caffe_pb2.TEST)
    test.share_with(train)
    train.params["a"][0].data[...] = 0.25
    assert (test.params["a"][0].data == 0.25).all()


def test_float64_net_agrees_with_float32():
    single, double = (make(DATA, ip("a", "data"), LOSS % ("a", ""), dtype=t) for t in (np.float32, np.float64))
    double.params["a"][0].data[...] = single.params["a"][0].data
    assert double.blobs["data"].data.dtype == np.float64
    assert run(single) == pytest.approx(run(double), rel=1e-6)


def test_hooks_are_called_for_every_layer():
    net = make(DATA, ip("a", "data"), LOSS % ("a", ""))
    seen = []
    for what in ("before_forward", "after_forward", "before_backward", "after_backward"):
        getattr(net, what)(lambda number, what=what: seen.append((what, number)))
    run(net)
    assert seen[:4] == [("before_forward", 0), ("after_forward", 0), ("before_forward", 1), ("after_forward", 1)]
    assert seen[-1] == ("after_backward", 0) and len(seen) == 12


@pytest.mark.parametrize("layers, text", [
    ([DATA, ip("a", "dota")], r"layer 'a' \(InnerProduct\).*'dota'.*did you mean 'data'"),
    ([DATA, ip("a", "data"), ip("b", "data", "a")], "layer 'b'.*produces blob 'a', which layer 'a'"),
    ([DATA, ip("a", "data").replace("InnerProduct", "InerProduct")], "layer type 'InerProduct'; did you mean 'InnerProduct'"),
    ([DATA, 'layer { name: "a" type: "ReLU" top: "a" }'], "layer 'a' .ReLU.*takes 1 bottom blob, 0 given"),
    ([DATA, ip("a", "data", extra="param {} param {} param {}")], "has 3 param entries for 2 parameters"),
], ids=["bottom", "top twice", "type", "count", "param"])
def test_refusals_name_the_layer(layers, text):
    with pytest.raises(Error, match=text):
        make(*layers)


def test_sizes_that_cannot_be_are_refused_with_the_layer_and_no_memory_taken(tmp_path):
    path = tmp_path / "net.prototxt"
    for text, says in (
        ('num_output: 4000000000 kernel_size: 3', r"shape \[4000000000, 3, 3, 3\] holds 108000000000 values, more than"),
        ('num_output: 4 kernel_size: 3 pad: 4000000', r"blob 'c': shape \[1, 4, 8000006, 8000006\] holds"),
        ('num_output: 4 kernel_size: 9', "a kernel of extent 9 .* does not fit"),
    ):
        path.write_text('layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }\n'
                        f'layer {{ name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param {{ {text} }} }}')
        with pytest.raises(Error, match=rf"layer 'c' \(Convolution, .*net.prototxt:2\): .*{says}"):
            Net(str(path))
    huge = "input_param { shape { dim: 1 dim: 1000000 dim: 1000000 } }"
    with pytest.raises(Error, match=r"layer 'in' \(Input\): blob 'x': shape \[1, 1000000, 1000000\] holds 1000000000000 values"):
        make(f'layer {{ name: "in" type: "Input" top: "x" {huge} }}')


def test_an_empty_bottom_is_named_where_a_layer_cannot_take_it():
    net = make('layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 4 dim: 3 dim: 3 } } }',
               'layer { name: "norm" type: "LRN" bottom: "x" top: "y" }')
    net.blobs["x"].reshape(0, 4, 3, 3)
    with pytest.raises(Error, match=r"layer 'norm' \(LRN\): cannot compute anything of 'x' \[0, 4, 3, 3\], which holds no"):
        net.forward()


def test_memory_that_is_not_there_is_told_with_the_layer(monkeypatch):
    net = make('layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }', ip("a", "x"))
    monkeypatch.setattr(net.layers[1], "forward", lambda bottom, top: np.empty(2**58))
    with pytest.raises(Error, match=r"layer 'a' \(InnerProduct\): out of memory: .*EiB"):
        net.forward()


def test_errors_of_our_own_are_not_dressed_up(monkeypatch):
    net = make('layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }', ip("a", "x"))
    monkeypatch.setattr(net.layers[1], "forward", lambda bottom, top: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        net.forward()


def test_a_phase_is_train_or_test():
    with pytest.raises(Error, match="the phase is 7; it must be TRAIN"):
        make(DATA, phase=7)


@pytest.mark.parametrize("channels, kernel", [(3, 3), (16, 3), (16, 1)], ids=["direct", "winograd", "gemm"])
def test_a_rectified_convolution_is_one_step_that_nobody_can_tell(channels, kernel):
    def two():
        return make(f"""layer {{ name: "in" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: {channels} dim: 9
          dim: 11 }} }} }} layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {{
          num_output: 17 kernel_size: {kernel} weight_filler {{ type: "msra" }} bias_filler {{ value: 0.1 }} }} }}
          layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}""")

    net, apart = two(), two()
    seen = []
    apart.after_forward(lambda number: seen.append(apart.blobs["conv"].data.copy()))
    for each in (net, apart):
        each.blobs["data"].data[...] = np.random.RandomState(0).randn(*each.blobs["data"].shape)
        each.forward()
    assert seen[1].min() < 0 and (np.maximum(seen[1], 0) == seen[2]).all()  # who watches sees the layers apart
    assert (net.blobs["conv"].data == apart.blobs["conv"].data).all()
    net.forward(end="conv")
    assert (net.blobs["conv"].data == seen[1]).all()
    net.forward("relu")
    assert (net.blobs["conv"].data == seen[2]).all()
    net.blobs["data"].data[0, 0, 4, 4] = np.nan
    net.forward()
    assert np.isnan(net.blobs["conv"].data).any()


def test_gradients_that_are_written_are_those_that_are_added_to_zeros():
    """`clear_param_diffs` spares the zeros where nobody looks: the same bits as with somebody who holds all gradients."""
    source = """
      layer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 2 dim: 3 dim: 9 dim: 7 }
        shape { dim: 2 dim: 5 } } }
      layer { name: "one" type: "Convolution" bottom: "x" top: "one" param { name: "w" } convolution_param { num_output: 3
        kernel_size: 3 stride: 2 pad: 4 bias_term: false weight_filler { type: "gaussian" std: 1 } } }
      layer { name: "two" type: "Convolution" bottom: "one" top: "two" param { name: "w" } convolution_param { num_output: 3
        kernel_size: 3 bias_term: false weight_filler { type: "gaussian" std: 1 } } }
      layer { name: "up" type: "Deconvolution" bottom: "two" top: "up" convolution_param { num_output: 4 kernel_size: 2
        weight_filler { type: "gaussian" std: 1 } } }
      layer { name: "point" type: "Convolution" bottom: "up" top: "point" convolution_param { num_output: 6 kernel_size: 1
        weight_filler { type: "gaussian" std: 1 } } }
      layer { name: "end" type: "InnerProduct" bottom: "point" top: "end" inner_product_param { num_output: 5
        weight_filler { type: "gaussian" std: 1 } } }
      layer { name: "loss" type: "EuclideanLoss" bottom: "end" bottom: "t" top: "loss" }"""
    for kernel in (None, "direct", "gemm", "plain", "blocked"):
        with choose.force(kernel):
            nets = [make(source, seed=3) for _ in range(2)]
        held = [blob.diff for blob in nets[0].learnable_params]
        for net in nets:
            net.blobs["x"].data[...] = np.random.default_rng(1).standard_normal(net.blobs["x"].shape)
            for _ in range(2):  # the second time over what the first left
                net.clear_param_diffs()
                net.forward_backward()
            assert any(net.learnable_params[0].diff.flat)
            net.forward_backward()
        for diff, blob in zip(held, nets[1].learnable_params, strict=True):
            assert np.array_equal(diff, blob.diff)
        nets[1].clear_param_diffs()
        assert not any(blob.diff.any() for blob in nets[1].learnable_params)
