"""The plan changes how a net is run and nothing that can be seen: blobs, gradients, views, partial runs."""

import copy
import itertools
import pickle

import numpy as np
import pytest

from layers.core import net as core_net
from layers.core.cpu import choose
from layers.core.net import Net
from netspec import caffe_pb2, text
from netspec.errors import Error, UnknownName
from netspec.spec import NetSpec
from netspec.spec import layers as L
from tests.layers.core.nets import padded_vgg, unplan

TRAIN, TEST = caffe_pb2.TRAIN, caffe_pb2.TEST


def make(phase=TEST, planned=True, message=None, **how):
    net = Net(message if message is not None else padded_vgg(pad=2), phase, seed=3, **how)
    if not planned:
        unplan(net)
    net.blobs["data"].data[...] = np.random.default_rng(1).standard_normal(net.blobs["data"].shape) * 50
    return net


def in_blocks(net, diff=False):
    return {name for name, blob in net.blobs.items() if blob.memory(diff).blocked is not None}


def test_blobs_between_layers_that_know_blocks_lie_in_blocks():
    net = make()
    assert net.plan.blocks == {"conv1_1", "conv1_2", "pool1", "conv2_1", "conv2_2", "pool2"}
    assert [tuple(f) for f in (net.plan.fusions[net.layer_names.index(name)] for name in ("conv1_1", "conv1_2", "conv2_2"))] == [
        (2, None), (4, 5), (9, None)]  # pool2 is 3 x 3
    net.forward()
    assert in_blocks(net) == net.plan.blocks


def test_every_blob_can_be_read_and_is_the_same_whatever_is_fused_or_in_blocks():
    nets = [make(), make(planned=False), make(), make()]
    nets[2].before_forward(lambda number: None)
    nets[3].param.debug_info = True
    for net in nets:
        net.forward()
    for name in nets[0].blobs:
        one, *others = (net.blobs[name].data for net in nets)
        for other in others:
            assert np.allclose(one, other, rtol=0, atol=1e-5 * abs(one).max()), name
    # Layouts and fusions change no bit; another kernel may.
    for name in ("conv1_2", "pool1", "conv2_2", "pool2", "score"):
        assert np.array_equal(nets[0].blobs[name].data, nets[2].blobs[name].data), name


def test_a_view_that_somebody_holds_shows_what_is_computed_next():
    net, other = make(), make()
    views = {name: net.blobs[name].data for name in net.blobs}
    net.forward()
    other.forward()
    for name, view in views.items():
        assert np.array_equal(view, other.blobs[name].data), name
    part = net.blobs["conv1_2"].data[0, 3:5, ::2]
    del views, view
    net.blobs["data"].data[...] += 1
    other.blobs["data"].data[...] += 1
    net.forward()
    other.forward()
    assert np.array_equal(part, other.blobs["conv1_2"].data[0, 3:5, ::2])


def test_looking_at_a_blob_changes_no_bit():
    net, other = make(), make()
    other.forward()
    for name in net.blobs:
        net.forward()
        net.blobs[name].data.sum()
    net.forward()
    for name in net.blobs:
        assert np.array_equal(net.blobs[name].data, other.blobs[name].data), name


def test_what_is_written_into_a_blob_is_what_the_next_layer_reads():
    net, other = make(), make(planned=False)
    for one in (net, other):
        one.forward()
        one.blobs["pool1"].data[...] *= 2
        one.forward(start="conv2_1")
    assert np.allclose(net.blobs["score"].data, other.blobs["score"].data, rtol=1e-5, atol=1e-3)
    for one in (net, other):
        one.forward(end="conv1_2")  # without its ReLU
    assert net.blobs["conv1_2"].data.min() < 0
    assert np.allclose(net.blobs["conv1_2"].data, other.blobs["conv1_2"].data, rtol=1e-5, atol=1e-3)


def losing(net):
    """The net's message with a loss on top, so that gradients have where to come from."""
    layer = net.layer.add(name="loss", type="EuclideanLoss", bottom=["score", "target"], top=["loss"])
    layer.loss_weight.append(1)
    made = caffe_pb2.NetParameter()
    made.CopyFrom(net)
    target = made.layer.add(name="target", type="DummyData", top=["target"])
    target.dummy_data_param.shape.add().dim.extend([1, 5, 5, 6])
    layers = list(made.layer)
    del made.layer[:]
    made.layer.extend([layers[-1], *layers[:-1]])
    return made


@pytest.mark.parametrize("look", [False, True])
def test_gradients_are_the_same(look):
    message = losing(padded_vgg(pad=2))
    nets = [make(TRAIN, planned, message) for planned in (True, False)]
    for _ in range(3):
        for net in nets:
            net.clear_param_diffs()
            net.forward_backward()
            if look:
                for blob in net.blobs.values():
                    blob.data.sum(), blob.diff.sum()
        one, other = nets
        assert one.blobs["loss"].data == pytest.approx(float(other.blobs["loss"].data), rel=1e-5)
        for name, number in itertools.product(one.params, (0, 1)):
            if number < len(one.params[name]):
                a, b = (net.params[name][number].diff for net in nets)
                assert abs(a - b).max() <= 2e-5 * abs(b).max(), (name, number)
    assert "conv2_1" in nets[0].plan.diff_blocks
    if not look:
        assert in_blocks(nets[0], diff=True) >= {"conv2_1", "pool1", "conv1_2"}


def test_the_plan_can_be_printed_and_says_what_and_why():
    said = str(make().plan)
    line = next(line for line in said.splitlines() if "conv1_2 + relu1_2 + pool1" in line)
    assert "winograd: F(4 x 4, 3 x 3)" in line and "NCHW16c" in line and "M" in line
    assert "score" in said and "in all" in said.splitlines()[-1]


def test_memory_is_about_what_the_net_takes():
    net = make(message=padded_vgg(pad=100, size=(200, 200)))
    needs = net.plan.memory()
    net.forward()
    taken = net._taken()
    assert 0.9 * taken <= needs.total - needs.kept <= 1.1 * taken


def test_a_size_beyond_the_memory_is_refused_with_the_plan(monkeypatch):
    net = make()
    net.forward()
    monkeypatch.setattr(core_net, "free_memory", lambda: 10 << 20)
    net.forward()
    net.blobs["data"].reshape(1, 3, 900, 900)
    with pytest.raises(Error, match=r"would take 0\.\d+ GiB more, and 0.01 GiB are free(.|\n)*conv1_2 \+ relu1_2"):
        net.forward()
    assert "conv1_1" not in in_blocks(net) or net.blobs["conv1_1"].memory().nbytes < 10 << 20
    net.blobs["data"].reshape(1, 3, 20, 24)
    net.forward()


class TestLowMemory:
    def test_blobs_are_given_up_and_say_so(self):
        net, other = make(low_memory=True, keep=["pool1"]), make()
        net.forward()
        other.forward()
        for name in ("data", "pool1", "score"):
            assert np.array_equal(net.blobs[name].data, other.blobs[name].data)
        with pytest.raises(Error, match="given up.*keep"):
            net.blobs["conv1_2"].data  # noqa: B018
        for _ in range(2):
            net.forward()
        assert np.array_equal(net.blobs["score"].data, other.blobs["score"].data)
        assert not any(layer.kernels._prepared for layer in net.layers if layer.type == "Convolution")

    def test_inputs_stay_when_several_layers_read_them_and_sizes_change(self):
        source = text.dump(padded_vgg(pad=2)) + """layer { name: "crop" type: "Crop" bottom: "conv1_2" bottom: "data" top: "crop"
          crop_param { offset: 1 } }"""
        nets = [make(low_memory=low, message=text.parse(source, caffe_pb2.NetParameter())) for low in (True, False)]
        for size in ((20, 24), (40, 30), (12, 13)):
            for net in nets:
                net.blobs["data"].reshape(1, 3, *size)
                net.blobs["data"].data[...] = 5
                net.forward()
            for name in ("crop", "score"):
                assert np.array_equal(nets[0].blobs[name].data, nets[1].blobs[name].data)

    def test_it_takes_less(self):
        small, large = (make(low_memory=low, message=padded_vgg(pad=50)) for low in (True, False))
        small.forward()
        large.forward()
        spare = sum(blocked.nbytes for blocked in small._spare)
        taken = small._taken() + spare
        assert taken < 0.85 * large._taken()
        assert small.plan.memory().total == pytest.approx(taken, rel=0.05)

    def test_a_view_keeps_its_blob(self):
        net, other = make(low_memory=True), make()
        view = net.blobs["conv2_1"].data
        net.forward()
        other.forward()
        assert np.array_equal(view, other.blobs["conv2_1"].data)

    def test_training_keeps_all_blobs(self):
        net, other = (make(TRAIN, message=losing(padded_vgg(pad=2)), low_memory=low) for low in (True, False))
        for one in (net, other):
            one.forward_backward()
        assert np.array_equal(net.params["conv1_1"][0].diff, other.params["conv1_1"][0].diff)
        assert net.blobs["conv1_2"].data.any()

    def test_training_gives_up_gradients_and_says_so(self):
        net, other = (make(TRAIN, message=losing(padded_vgg(pad=2)), low_memory=low, keep=["pool1"]) for low in (True, False))
        held = net.blobs["conv2_1"].diff
        for _ in range(2):
            for one in (net, other):
                one.clear_param_diffs()
                one.forward_backward()
        for mine, theirs in zip(net.learnable_params, other.learnable_params, strict=True):
            assert np.array_equal(mine.diff, theirs.diff)
        assert np.array_equal(net.blobs["pool1"].diff, other.blobs["pool1"].diff) and other.blobs["pool1"].diff.any()
        assert np.array_equal(held, other.blobs["conv2_1"].diff)
        assert np.array_equal(net.blobs["loss"].diff, other.blobs["loss"].diff)
        with pytest.raises(Error, match="given up.*keep"):
            net.blobs["conv1_1"].diff  # noqa: B018
        with pytest.raises(Error, match="given up.*keep"):
            net.backward("conv1_1", "conv1_1")

    def test_training_takes_less(self):
        small, large = (make(TRAIN, message=losing(padded_vgg(pad=2)), low_memory=low) for low in (True, False))
        for net in (small, large):
            net.forward_backward()
        taken = [sum(blob.memory(diff=True).nbytes for blob in net.blobs.values()) + sum(blocked.nbytes for blocked in net._spare)
                 for net in (small, large)]
        assert taken[0] < 0.7 * taken[1]
        assert small.plan.memory().diff < 0.7 * large.plan.memory().diff

    def test_an_unknown_blob_to_keep_is_refused(self):
        with pytest.raises(UnknownName, match="no blob 'pool_1' to keep.*did you mean 'pool1'"):
            make(low_memory=True, keep=["pool_1"])


def test_split_blobs_and_branches_agree():
    """Blobs read by several layers, of which some know blocks and some do not."""
    source = text.dump(padded_vgg(pad=2)) + """
      layer { name: "side" type: "Convolution" bottom: "pool1" top: "side"
              convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "msra" } } }
      layer { name: "flat" type: "Flatten" bottom: "conv2_1" top: "flat" }
      layer { name: "sum" type: "Eltwise" bottom: "conv2_2" bottom: "conv2_2" top: "sum" eltwise_param { coeff: 1 coeff: -2 } }
      layer { name: "join" type: "Concat" bottom: "sum" bottom: "conv2_1" top: "join" }
      layer { name: "norm" type: "LRN" bottom: "join" top: "norm" }
      layer { name: "last" type: "Convolution" bottom: "norm" top: "last"
              convolution_param { num_output: 20 kernel_size: 5 stride: 2 weight_filler { type: "msra" } } }
      layer { name: "relu" type: "ReLU" bottom: "last" top: "positive" relu_param { negative_slope: 0.1 } }
      layer { name: "mean" type: "Pooling" bottom: "positive" top: "mean" pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
    """
    message = text.parse(source, caffe_pb2.NetParameter())
    one, other = make(message=message), make(message=message, planned=False)
    for _ in range(2):
        one.forward()
    other.forward()
    for name in one.blobs:
        a, b = one.blobs[name].data, other.blobs[name].data
        assert np.allclose(a, b, rtol=0, atol=1e-5 * max(abs(b).max(), 1e-30)), name


class TestJoinedBlobs:
    """Bottoms of a Concat are written where they are joined."""

    FIRE = """
      layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 32 dim: 9 dim: 11 } } }
      layer { name: "one" type: "Convolution" bottom: "data" top: "one"
              convolution_param { num_output: 16 kernel_size: 1 weight_filler { type: "msra" } } }
      layer { name: "relu1" type: "ReLU" bottom: "one" top: "one" }
      layer { name: "three" type: "Convolution" bottom: "data" top: "three"
              convolution_param { num_output: 32 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
      layer { name: "pooled" type: "Pooling" bottom: "data" top: "pooled" pooling_param { kernel_size: 3 stride: 1 pad: 1 } }
      layer { name: "join" type: "Concat" bottom: "one" bottom: "three" bottom: "pooled" top: "join" }
      MORE
      layer { name: "last" type: "Convolution" bottom: "join" top: "last"
              convolution_param { num_output: 16 kernel_size: 3 stride: 2 weight_filler { type: "msra" } } }
      layer { name: "score" type: "Convolution" bottom: "last" top: "score"
              convolution_param { num_output: 5 kernel_size: 1 weight_filler { type: "msra" } } }
    """

    def nets(self, more="", batch=1, **how):
        message = text.parse(self.FIRE.replace("MORE", more), caffe_pb2.NetParameter())
        message.layer[0].input_param.shape[0].dim[0] = batch
        return make(message=message, **how), make(message=message, planned=False)

    def same(self, one, other):
        for name in one.blobs:
            a, b = one.blobs[name].data, other.blobs[name].data
            assert np.allclose(a, b, rtol=0, atol=1e-5 * max(abs(b).max(), 1e-30)), name

    @pytest.mark.parametrize("batch", [1, 3])
    def test_they_lie_there_and_are_what_they_are(self, batch):
        one, other = self.nets(batch=batch)
        for size in ((9, 11), (9, 11), (20, 7), (5, 5)):
            for net in (one, other):
                net.blobs["data"].reshape(batch, 32, *size)
                net.blobs["data"].data[...] = np.random.default_rng(2).standard_normal(net.blobs["data"].shape)
                net.forward()
            whole = one.blobs["join"].memory().blocked
            assert all(whole.has_part(blob.memory().blocked, blob.within[1], blob.shape[1])
                       for blob in (one.blobs["one"], one.blobs["three"]))
            assert np.allclose(one.blobs["score"].data, other.blobs["score"].data, rtol=1e-4, atol=1e-5)
        self.same(one, other)
        one.forward()
        other.forward()
        self.same(one, other)

    def test_what_is_changed_by_hand_is_joined_again(self):
        nets = self.nets()
        for net in nets:
            net.forward()
            net.blobs["one"].data[...] += 1
            net.forward(start="join")
        self.same(*nets)
        for net in nets:
            net.blobs["join"].data[...] *= 2
            net.forward(start="last")
        assert np.allclose(nets[0].blobs["one"].data, nets[1].blobs["one"].data, rtol=1e-4, atol=1e-5)
        self.same(*nets)

    def test_a_run_that_ends_before_leaves_the_whole_alone(self):
        nets = self.nets()
        for net in nets:
            net.forward()
            net.blobs["data"].data[...] *= -1
            net.forward(end="three")
        self.same(*nets)

    @pytest.mark.parametrize("more", [
        'layer { name: "again" type: "ReLU" bottom: "join" top: "join" relu_param { negative_slope: -1 } }',
        'layer { name: "drop" type: "Dropout" bottom: "join" top: "join" }'])
    def test_a_layer_that_changes_the_whole_changes_no_part(self, more):
        one, other = self.nets(more)
        for net in (one, other):
            net.forward()
        assert bool(one.plan._joins) == ("Dropout" in more)
        self.same(one, other)

    def test_hooks_and_views_and_low_memory(self):
        one, other = self.nets()
        view = one.blobs["three"].data
        for net in (one, other):
            net.forward()
        assert np.allclose(view, other.blobs["three"].data, rtol=1e-4, atol=1e-5)
        seen = []
        one.after_forward(lambda number: seen.append(one.blobs["one"].data.sum()))
        one.forward()
        assert len(seen) == len(one.layers)
        self.same(one, other)
        one, other = self.nets(low_memory=True)
        for net in (one, other):
            net.forward()
        assert np.allclose(one.blobs["score"].data, other.blobs["score"].data, rtol=1e-4, atol=1e-5)

    def test_gradients_are_the_same(self):
        made = self.nets()[0].param
        message = caffe_pb2.NetParameter()
        message.CopyFrom(made)
        message.force_backward = True
        layer = message.layer.add(name="loss", type="Reduction", bottom=["score"], top=["loss"])
        layer.loss_weight.append(1)
        nets = [make(TRAIN, planned, message) for planned in (True, False)]
        for _ in range(2):
            for net in nets:
                net.clear_param_diffs()
                net.forward_backward()
        for name in nets[0].params:
            a, b = (net.params[name][0].diff for net in nets)
            assert abs(a - b).max() <= 2e-5 * abs(b).max(), name
        a, b = (net.blobs["data"].diff for net in nets)
        assert abs(a - b).max() <= 2e-5 * abs(b).max()


@pytest.mark.parametrize("size", [(20, 24), (9, 7)])
def test_nan_comes_out_of_fused_pooling_as_out_of_pooling(size):
    """NaN loses against any number, and stays where a window has nothing else."""
    nets = [make(message=padded_vgg(pad=1, size=size)) for _ in range(2)]
    nets[1].before_forward(lambda number: None)  # layers are then run one by one
    for net in nets:
        net.blobs["data"].data[0, 1, 4, 5] = np.nan
        net.forward()
        assert np.isnan(net.blobs["pool1"].data).any() and not np.isnan(net.blobs["pool1"].data).all()
    for name in ("conv1_2", "pool1"):
        assert np.array_equal(nets[0].blobs[name].data, nets[1].blobs[name].data, equal_nan=True), name


def test_few_channels_may_lie_in_blocks_too():
    """A convolution of 3 channels reads NCHW best; an Eltwise before it may have moved them."""
    source = """
      layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }
      layer { name: "twice" type: "Eltwise" bottom: "data" bottom: "data" top: "twice" }
      layer { name: "pool" type: "Pooling" bottom: "twice" top: "pool" pooling_param { kernel_size: 3 stride: 1 pad: 1 } }
      layer { name: "c" type: "Convolution" bottom: "data" top: "c"
              convolution_param { num_output: 16 kernel_size: 3 weight_filler { type: "msra" } } }
      layer { name: "d" type: "Convolution" bottom: "c" top: "d"
              convolution_param { num_output: 16 kernel_size: 3 weight_filler { type: "msra" } } }
    """
    message = text.parse(source, caffe_pb2.NetParameter())
    one, other = make(message=message), make(planned=False, message=message)
    for net in (one, other):
        net.forward()
    assert np.allclose(one.blobs["d"].data, other.blobs["d"].data, rtol=1e-4, atol=1e-3)
    one.blobs["data"].memory().to_blocks((1, 3, 9, 9))
    one.forward()
    assert np.allclose(one.blobs["d"].data, other.blobs["d"].data, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda blob: pickle.loads(pickle.dumps(blob))])
def test_copies_of_blobs_in_blocks_are_copies(how):
    net = make()
    net.forward()
    made = how(net.blobs["conv1_2"])
    net.blobs["data"].data[...] = 0
    net.forward()
    other = make()
    other.forward()
    assert np.array_equal(made.data, other.blobs["conv1_2"].data)


def test_an_interrupt_while_weights_are_transformed_leaves_no_half_made_ones(monkeypatch):
    net, other = make(), make()
    net.forward()
    kept = net.params["conv1_2"][0].data.copy()

    def interrupted(weight, turned, out, group):
        out[...] = 7
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(choose.winograd, "prepare", interrupted)
        net.params["conv1_2"][0].data[...] *= 2
        with pytest.raises(KeyboardInterrupt):
            net.forward()
    net.params["conv1_2"][0].data[...] = kept
    net.forward()
    other.forward()
    assert np.array_equal(net.blobs["score"].data, other.blobs["score"].data)


def test_a_part_that_is_changed_in_place_later_changes_no_whole():
    fire = TestJoinedBlobs.FIRE.replace("MORE", "").replace('bottom: "one" top: "one" }', """bottom: "one" top: "one"
      relu_param { negative_slope: 0.5 } }""")
    message = text.parse(fire, caffe_pb2.NetParameter())
    one, other = make(message=message), make(planned=False, message=message)
    for net in (one, other):
        net.forward()
        net.forward(start="relu1", end="relu1")
    for name in ("one", "join"):
        assert np.allclose(one.blobs[name].data, other.blobs[name].data, rtol=1e-4, atol=1e-3), name


def test_sizes_that_come_back_are_joined_in_their_place(monkeypatch):
    n = NetSpec()
    n.data = L.Input(input_param={"shape": {"dim": [1, 16, 20, 24]}})
    for name in ("a", "b"):
        n[name] = L.Convolution(n.data, num_output=16, kernel_size=3, pad=1, weight_filler={"type": "msra"})
    n.both = L.Concat(n.a, n.b)
    n.out = L.Convolution(n.both, num_output=16, kernel_size=1, weight_filler={"type": "msra"})
    net = Net(n.to_proto(), caffe_pb2.TEST, seed=1)
    looked = []
    monkeypatch.setattr(core_net, "free_memory", lambda: looked.append(1))
    for size, back in (((20, 24), False), ((19, 9), False), ((40, 50), False), ((20, 24), True), ((40, 50), True)):
        net.blobs["data"].reshape(1, 16, *size)
        net.blobs["data"].data[...] = np.arange(16 * size[0] * size[1]).reshape(1, 16, *size) % 7
        looked.clear()
        net.forward()
        whole = net.blobs["both"].memory().blocked
        assert all(whole.has_part(net.blobs[name].memory().blocked, channel, 16) for name, channel in (("a", 0), ("b", 16))), size
        assert not (back and looked), size  # the memory was found when the size was first met, and kept


def test_low_memory_keeps_what_is_written_once():
    source = """
      layer { name: "seven" type: "DummyData" top: "seven" dummy_data_param { shape { dim: 1 dim: 16 dim: 4 dim: 4 }
              data_filler { value: 7 } } }
      layer { name: "c" type: "Convolution" bottom: "seven" top: "c"
              convolution_param { num_output: 16 kernel_size: 1 weight_filler { value: 1 } } }
    """
    net = Net(text.parse(source, caffe_pb2.NetParameter()), TEST, low_memory=True)
    for _ in range(3):
        net.forward()
        assert (net.blobs["c"].data == 7 * 16).all()


def test_data_layers_that_come_later_say_their_sizes_when_their_turn_comes(tmp_path, monkeypatch):
    (tmp_path / "late.py").write_text("""
class Late:
    size, calls = 9, 0

    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        Late.calls += 1
        top[0].reshape(1, 5, Late.size, Late.size)

    def forward(self, bottom, top):
        top[0].data[...] = 1

    def backward(self, *arguments):
        pass
""")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    source = """
      layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }
      layer { name: "c" type: "Convolution" bottom: "data" top: "c"
              convolution_param { num_output: 5 kernel_size: 1 weight_filler { type: "msra" } } }
      layer { name: "late" type: "Python" top: "label" python_param { module: "late" layer: "Late" } }
      layer { name: "loss" type: "EuclideanLoss" bottom: "c" bottom: "label" top: "loss" }
    """
    net = Net(text.parse(source, caffe_pb2.NetParameter()), TEST)
    import late

    for size in (9, 12, 7):
        late.Late.size, before = size, late.Late.calls
        net.blobs["data"].reshape(1, 3, size, size)
        net.forward()
        assert late.Late.calls == before + 1
