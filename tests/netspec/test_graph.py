"""Rules and Split layers, held against what Caffe produced and against its rules worked by hand."""

import numpy as np
import pytest

from netspec import caffe_pb2, graph, text
from netspec.errors import Error
from tests.support import GOLDENS, shared


def net_of(prototxt):
    return text.parse(prototxt, caffe_pb2.NetParameter())


def state_of(prototxt=""):
    return text.parse(prototxt, caffe_pb2.NetState())


def layer(name, bottoms="", tops="", more="", kind="T"):
    """Return the text of a layer; bottoms and tops are names with spaces between."""
    lines = [f'bottom: "{b}"' for b in bottoms.split()] + [f'top: "{t}"' for t in tops.split()]
    return f'layer {{ name: "{name}" type: "{kind}" {" ".join(lines)} {more} }}\n'


def shape_of(net):
    """Return the net as [(name, bottoms, tops)]."""
    return [(one.name, list(one.bottom), list(one.top)) for one in net.layer]


# Rules


@pytest.mark.parametrize(
    ("rule", "state", "met"),
    [
        ("", "", True),
        ("phase: TRAIN", "phase: TRAIN", True),
        ("phase: TRAIN", "phase: TEST", False),
        ("phase: TEST", "", True),  # a NetState is of phase TEST unless it says otherwise
        ("min_level: 2", "level: 2", True),
        ("min_level: 2", "level: 1", False),
        ("min_level: 0", "", True),
        ("max_level: 2", "level: 2", True),
        ("max_level: 2", "level: 3", False),
        ("max_level: -1", "", False),
        ("min_level: 1 max_level: 3", "level: 2", True),
        ('stage: "a"', 'stage: "a" stage: "b"', True),
        ('stage: "a" stage: "b"', 'stage: "a"', False),
        ('stage: "a" stage: "b"', 'stage: "b" stage: "a"', True),
        ('stage: "a"', "", False),
        ('not_stage: "a"', "", True),
        ('not_stage: "a"', 'stage: "b"', True),
        ('not_stage: "a" not_stage: "b"', 'stage: "b"', False),
        ('stage: "a" not_stage: "b"', 'stage: "a" stage: "b"', False),
        ('phase: TRAIN stage: "a"', 'phase: TRAIN stage: "a"', True),
        ('phase: TRAIN stage: "a"', 'phase: TEST stage: "a"', False),
    ],
)
def test_rule_is_met_when_all_it_says_holds(rule, state, met):
    assert graph.rule_is_met(text.parse(rule, caffe_pb2.NetStateRule()), state_of(state)) is met
    included = net_of(layer("x", more=f"include {{ {rule} }}"))
    excluded = net_of(layer("x", more=f"exclude {{ {rule} }}"))
    assert bool(graph.filter_net(included, state_of(state)).layer) is met
    assert bool(graph.filter_net(excluded, state_of(state)).layer) is not met


def test_one_of_several_rules_is_enough():
    net = net_of(
        layer("in", more="include { phase: TRAIN } include { min_level: 5 }")
        + layer("out", more='exclude { phase: TRAIN } exclude { stage: "s" }')
        + layer("free")
    )
    names = {
        state: [one.name for one in graph.filter_net(net, state_of(state)).layer]
        for state in ("phase: TRAIN", "phase: TEST", "phase: TEST level: 5", 'phase: TEST stage: "s"')
    }
    assert names == {
        "phase: TRAIN": ["in", "free"],
        "phase: TEST": ["out", "free"],
        "phase: TEST level: 5": ["in", "out", "free"],
        'phase: TEST stage: "s"': ["free"],
    }


def test_filter_leaves_the_rest_of_the_net_and_its_input_alone():
    net = net_of('name: "n" force_backward: true state { stage: "s" }' + layer("a") + layer("b", more="include {}"))
    before = net.SerializeToString()
    filtered = graph.filter_net(net, state_of("phase: TRAIN"))
    assert filtered == net
    filtered.layer[0].name = "changed"
    assert net.SerializeToString() == before


def test_filter_takes_the_nets_own_state_when_none_is_given():
    net = net_of('state { phase: TRAIN stage: "s" }' + layer("a", more='include { phase: TRAIN stage: "s" }'))
    assert len(graph.filter_net(net).layer) == 1
    net.ClearField("state")
    assert len(graph.filter_net(net).layer) == 0


def test_filter_refuses_include_beside_exclude():
    net = net_of(layer("a", more="include { phase: TRAIN } exclude { phase: TEST }", kind="ReLU"))
    with pytest.raises(Error, match=r"layer 'a' \(ReLU\), f:3: has both include and exclude"):
        graph.filter_net(net, state_of(), {"a": "f:3"})


# Splits


@pytest.mark.parametrize(
    "case", ["narrow_fcn32s", "narrow_fcn16s", "narrow_fcn8s", "narrow_fcn8s_atonce", "full_fcn8s"]
)
def test_blobs_and_their_order_are_caffes(case):
    path = GOLDENS / "nets" / f"{case}.npz"
    if not path.exists():
        path = shared(f"goldens/nets/{case}.npz")
    with np.load(path) as golden:
        caffes = [key.removeprefix("moments/blob/") for key in golden.files if key.startswith("moments/blob/")]
        net = net_of(str(golden["prototxt"]))
        phase = "TRAIN" if "loss" in golden.files else "TEST"
    split = graph.insert_splits(graph.filter_net(net, state_of(f"phase: {phase}")))
    ours = list(dict.fromkeys(top for one in split.layer for top in one.top))
    assert [b for b in ours if "_split_" in b] == [b for b in caffes if "_split_" in b]
    assert ours == caffes
    assert graph.check(split) == []


def test_no_split_for_single_readers():
    net = net_of(layer("data", "", "data label") + layer("ip", "data", "ip") + layer("loss", "ip label"))
    assert graph.insert_splits(net) == net


def test_split_follows_its_producer_and_is_named_after_it():
    net = net_of(
        layer("in", "", "x y")
        + layer("a", "x y", "p")
        + layer("b", "x y", "q")
        + layer("c", "y p q", "r")
    )
    assert shape_of(graph.insert_splits(net)) == [
        ("in", [], ["x", "y"]),
        ("x_in_0_split", ["x"], ["x_in_0_split_0", "x_in_0_split_1"]),
        ("y_in_1_split", ["y"], ["y_in_1_split_0", "y_in_1_split_1", "y_in_1_split_2"]),
        ("a", ["x_in_0_split_0", "y_in_1_split_0"], ["p"]),
        ("b", ["x_in_0_split_1", "y_in_1_split_1"], ["q"]),
        ("c", ["y_in_1_split_2", "p", "q"], ["r"]),
    ]


def test_split_behind_the_last_in_place_layer():
    # The readers come after relu, so the Split belongs to relu and not to conv.
    net = net_of(
        layer("in", "", "x")
        + layer("conv", "x", "y")
        + layer("relu", "y", "y")
        + layer("a", "y", "a")
        + layer("b", "y", "b")
    )
    split = graph.insert_splits(net)
    assert shape_of(split)[1:] == [
        ("conv", ["x"], ["y"]),
        ("relu", ["y"], ["y"]),
        ("y_relu_0_split", ["y"], ["y_relu_0_split_0", "y_relu_0_split_1"]),
        ("a", ["y_relu_0_split_0"], ["a"]),
        ("b", ["y_relu_0_split_1"], ["b"]),
    ]
    assert split.layer[3].type == "Split"
    assert graph.check(net) == graph.check(split) == []


def test_one_layer_that_reads_a_blob_twice_gets_two_copies():
    net = net_of(layer("in", "", "x") + layer("sum", "x x", "y"))
    assert shape_of(graph.insert_splits(net))[-1] == ("sum", ["x_in_0_split_0", "x_in_0_split_1"], ["y"])


def test_loss_weight_is_a_reader_and_moves_to_the_split():
    net = net_of(layer("in", "", "x") + layer("ip", "x", "y", "loss_weight: 2.5") + layer("a", "y", "z"))
    split = graph.insert_splits(net)
    assert shape_of(split)[1:] == [
        ("ip", ["x"], ["y"]),
        ("y_ip_0_split", ["y"], ["y_ip_0_split_0", "y_ip_0_split_1"]),
        ("a", ["y_ip_0_split_1"], ["z"]),  # top 0 is the loss's
    ]
    assert list(split.layer[1].loss_weight) == []
    assert list(split.layer[2].loss_weight) == [2.5, 0]
    assert list(net.layer[1].loss_weight) == [2.5]


def test_loss_weight_without_other_reader_stays():
    net = net_of(layer("in", "", "x") + layer("loss", "x", "l", "loss_weight: 3"))
    assert graph.insert_splits(net) == net


def test_zero_loss_weight_is_no_reader():
    net = net_of(layer("in", "", "x") + layer("l", "x", "y", "loss_weight: 0") + layer("a", "y", "z"))
    assert graph.insert_splits(net) == net


def test_the_other_loss_weights_of_a_layer_stay():
    net = net_of(layer("in", "", "x") + layer("l", "x", "y z", "loss_weight: 1 loss_weight: 2") + layer("a", "y", "w"))
    split = graph.insert_splits(net)
    assert list(split.layer[1].loss_weight) == [0, 2]
    assert list(split.layer[2].loss_weight) == [1, 0]


def test_loss_weight_without_a_top_survives():
    net = net_of(layer("in", "", "x") + layer("loss", "x", "", "loss_weight: 1"))
    assert graph.insert_splits(net) == net
    assert graph.check(net) == []


def test_inserting_twice_changes_nothing():
    net = net_of(layer("in", "", "x") + layer("a", "x", "y", "loss_weight: 1") + layer("b", "x y", "z"))
    once = graph.insert_splits(net)
    assert graph.insert_splits(once) == once


def test_splits_keep_rules_blobs_and_the_net_around():
    net = net_of('name: "n" state { level: 3 }' + layer("in", "", "x", "blobs { data: 1 }") + layer("a", "x x"))
    split = graph.insert_splits(net)
    assert (split.name, split.state.level, list(split.layer[0].blobs[0].data)) == ("n", 3, [1])


# Refusals


def test_unknown_bottom_names_layer_line_blob_and_nearest():
    net = net_of(layer("in", "", "conv1") + layer("relu", "convv1", "r", kind="ReLU"))
    wanted = r"layer 'relu' \(ReLU\), train.prototxt:9: unknown bottom blob 'convv1'; did you mean 'conv1'\?"
    for refuse in (graph.insert_splits, graph.check):
        with pytest.raises(Error, match=wanted):
            refuse(net, {"relu": "train.prototxt:9"})
    with pytest.raises(Error, match=r"layer 'relu' \(ReLU\): unknown"):
        graph.check(net)


def test_unknown_bottom_that_comes_later_says_so():
    net = net_of(layer("a", "late", "r") + layer("b", "", "late"))
    with pytest.raises(Error, match="unknown bottom blob 'late'; layer 'b' .T. produces it, but comes later"):
        graph.insert_splits(net)
    with pytest.raises(Error, match="the layer produces it itself"):
        graph.check(net_of(layer("a", "x", "x")))


def test_blob_of_two_producers_names_both():
    net = net_of(layer("in", "", "x") + layer("a", "x", "y") + layer("b", "x", "y"))
    with pytest.raises(Error, match=r"layer 'b' \(T\), f:3: produces blob 'y', which layer 'a' \(T\), f:2 already"):
        graph.check(net, {"a": "f:2", "b": "f:3"})
    with pytest.raises(Error, match="layer 'in'.*: has top 'x' twice"):
        graph.check(net_of(layer("in", "", "x x")))


def test_in_place_wants_the_same_number():
    # Bottom 1 is x and top 0 is x: for Caffe that is a second producer, no in-place layer.
    net = net_of(layer("in", "", "w x") + layer("a", "w x", "x"))
    with pytest.raises(Error, match="layer 'a'.*produces blob 'x', which layer 'in'"):
        graph.check(net)


def test_in_place_on_a_blob_that_was_read_before():
    net = net_of(layer("in", "", "x") + layer("a", "x", "y") + layer("relu", "x", "x"))
    with pytest.raises(Error, match="layer 'relu'.*in place on blob 'x', which layer 'a' .T. also reads"):
        graph.check(net)
    net = net_of(layer("in", "", "x", "loss_weight: 1") + layer("relu", "x", "x"))
    with pytest.raises(Error, match="the loss of layer 'in' .T. also reads"):
        graph.check(net)
    with pytest.raises(Error, match="layer 'relu' .T. also reads"):
        graph.check(net_of(layer("in", "", "x") + layer("relu", "x x", "x")))
    assert graph.check(net_of(layer("in", "", "x") + layer("relu", "x", "x") + layer("a", "x", "y"))) == []


def test_propagate_down_wants_one_a_bottom():
    net = net_of(layer("in", "", "x y") + layer("a", "x y", "z", "propagate_down: true"))
    with pytest.raises(Error, match="propagate_down is given 1 times for 2 bottoms"):
        graph.check(net)


def test_repeated_layer_names_are_allowed_and_told():
    net = net_of(layer("in", "", "x") + layer("a", "x", "y") + layer("a", "y", "z") + layer("", "z") + layer("", "z"))
    assert graph.check(net, {"a": "f:2, :3"}) == ["2 layers are named 'a' (f:2, :3); weights are matched by name"]


def test_a_net_with_old_fields_is_sent_to_the_upgrade():
    for old in ("layers { type: RELU }", 'input: "data"'):
        for refuse in (graph.filter_net, graph.insert_splits, graph.check):
            with pytest.raises(Error, match="upgrade_net first"):
                refuse(net_of(old))
