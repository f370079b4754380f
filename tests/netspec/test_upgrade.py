"""Old nets and solvers: every type and field of the old ages, each held against the same net written today."""

import pytest

from netspec import caffe_pb2, text, upgrade, upgrade_file
from netspec.errors import Error

V1 = caffe_pb2.V1LayerParameter


def net_of(prototxt):
    return text.parse(prototxt, caffe_pb2.NetParameter())


def solver_of(prototxt):
    return text.parse(prototxt, caffe_pb2.SolverParameter())


def assert_becomes(old, new):
    """The net `old` upgrades to `new`, which has nothing left to upgrade."""
    net, wanted = net_of(old), net_of(new)
    assert upgrade.needs_upgrade(net)
    said = upgrade.upgrades(net)
    assert net == net_of(old)  # asking changes nothing
    assert upgrade.upgrade_net(net) is net
    assert text.dump(net) == text.dump(wanted)
    assert said
    assert not upgrade.needs_upgrade(net)
    assert upgrade.upgrades(net) == []
    return said


# V0


def test_v0_lenet_becomes_todays():
    said = assert_becomes(
        """
        name: "lenet"
        layers { layer { name: "mnist" type: "data" source: "mnist-leveldb" batchsize: 64 scale: 0.00390625 rand_skip: 5
                         meanfile: "m.binaryproto" cropsize: 24 mirror: true } top: "data" top: "label" }
        layers { layer { name: "conv1" type: "conv" num_output: 20 kernelsize: 5 stride: 2 group: 2 biasterm: false
                         weight_filler { type: "xavier" } bias_filler { value: 0.5 }
                         blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
                         blobs { num: 1 channels: 1 height: 1 width: 2 data: 3 data: 4 } }
                 bottom: "data" top: "conv1" }
        layers { layer { name: "pool1" type: "pool" pool: AVE kernelsize: 2 stride: 2 pad: 1 }
                 bottom: "conv1" top: "pool1" }
        layers { layer { name: "norm1" type: "lrn" local_size: 3 alpha: 0.1 beta: 0.5 k: 2 }
                 bottom: "pool1" top: "norm1" }
        layers { layer { name: "ip1" type: "innerproduct" num_output: 500 biasterm: true } bottom: "norm1" top: "ip1" }
        layers { layer { name: "drop1" type: "dropout" dropout_ratio: 0.25 } bottom: "ip1" top: "ip1" }
        layers { layer { name: "loss" type: "softmax_loss" } bottom: "ip1" bottom: "label" }
        """,
        """
        name: "lenet"
        layer { name: "mnist" type: "Data" top: "data" top: "label"
                data_param { source: "mnist-leveldb" batch_size: 64 rand_skip: 5 }
                transform_param { scale: 0.00390625 mean_file: "m.binaryproto" crop_size: 24 mirror: true } }
        layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
                param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
                blobs { num: 1 channels: 1 height: 1 width: 2 data: 3 data: 4 }
                convolution_param { num_output: 20 kernel_size: 5 stride: 2 group: 2 bias_term: false
                                    weight_filler { type: "xavier" } bias_filler { value: 0.5 } } }
        layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
                pooling_param { pool: AVE kernel_size: 2 stride: 2 pad: 1 } }
        layer { name: "norm1" type: "LRN" bottom: "pool1" top: "norm1"
                lrn_param { local_size: 3 alpha: 0.1 beta: 0.5 k: 2 } }
        layer { name: "ip1" type: "InnerProduct" bottom: "norm1" top: "ip1"
                inner_product_param { num_output: 500 bias_term: true } }
        layer { name: "drop1" type: "Dropout" bottom: "ip1" top: "ip1" dropout_param { dropout_ratio: 0.25 } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip1" bottom: "label" }
        """,
    )
    assert said[0] == "7 V0 layers ('layers { layer { ... } }') became V1"
    assert said[-1] == "7 V1 layers ('layers') became 'layer'"


def test_v0_data_layers_keep_their_fields():
    assert_becomes(
        """
        layers { layer { name: "i" type: "images" source: "s" batchsize: 2 rand_skip: 3 shuffle_images: true
                         new_height: 4 new_width: 5 } top: "i" }
        layers { layer { name: "w" type: "window_data" source: "s" batchsize: 2 det_fg_threshold: 0.1
                         det_bg_threshold: 0.2 det_fg_fraction: 0.3 det_context_pad: 4
                         det_crop_mode: "square" } top: "w" }
        layers { layer { name: "h" type: "hdf5_data" source: "s" batchsize: 2 } top: "h" }
        layers { layer { name: "o" type: "hdf5_output" hdf5_output_param { file_name: "f" } } bottom: "h" }
        layers { layer { name: "c" type: "concat" concat_dim: 0 } bottom: "h" bottom: "w" top: "c" }
        layers { layer { name: "l" type: "infogain_loss" source: "s" } bottom: "c" bottom: "i" }
        """,
        """
        layer { name: "i" type: "ImageData" top: "i" image_data_param { source: "s" batch_size: 2 rand_skip: 3
                shuffle: true new_height: 4 new_width: 5 } }
        layer { name: "w" type: "WindowData" top: "w" window_data_param { source: "s" batch_size: 2 fg_threshold: 0.1
                bg_threshold: 0.2 fg_fraction: 0.3 context_pad: 4 crop_mode: "square" } }
        layer { name: "h" type: "HDF5Data" top: "h" hdf5_data_param { source: "s" batch_size: 2 } }
        layer { name: "o" type: "HDF5Output" bottom: "h" hdf5_output_param { file_name: "f" } }
        layer { name: "c" type: "Concat" bottom: "h" bottom: "w" top: "c" concat_param { concat_dim: 0 } }
        layer { name: "l" type: "InfogainLoss" bottom: "c" bottom: "i" infogain_loss_param { source: "s" } }
        """,
    )


def test_v0_padding_melts_into_conv_and_pool():
    said = assert_becomes(
        """
        layers { layer { name: "in" type: "data" } top: "data" }
        layers { layer { name: "pad1" type: "padding" pad: 2 } bottom: "data" top: "pad1" }
        layers { layer { name: "conv1" type: "conv" } bottom: "pad1" top: "conv1" }
        layers { layer { name: "pool1" type: "pool" } bottom: "pad1" top: "pool1" }
        """,
        """
        layer { name: "in" type: "Data" top: "data" }
        layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param { pad: 2 } }
        layer { name: "pool1" type: "Pooling" bottom: "data" top: "pool1" pooling_param { pad: 2 } }
        """,
    )
    assert said[:2] == [
        "padding layer 'pad1' merged into 'conv1' (pad 2)",
        "padding layer 'pad1' merged into 'pool1' (pad 2)",
    ]


@pytest.mark.parametrize(
    ("layers", "wanted"),
    [
        (
            'layers { layer { name: "p" type: "padding" pad: 1 } bottom: "x" top: "p" } '
            'layers { layer { name: "r" type: "relu" } bottom: "p" top: "r" }',
            r"f:8: layer 'r' \(relu\) reads padding layer 'p'; only conv and pool",
        ),
        (
            'layers { layer { name: "p" type: "padding" pad: 1 } bottom: "x" top: "p" } '
            'layers { layer { name: "c" type: "conv" } bottom: "p" bottom: "x" top: "c" }',
            "f:8: .*'c' must have 1 bottom, not 2",
        ),
        (
            'layers { layer { name: "p" type: "padding" pad: 1 } bottom: "x" top: "p" top: "q" } '
            'layers { layer { name: "c" type: "conv" } bottom: "p" top: "c" }',
            "f:8: .*'p' must have 1 top, not 2",
        ),
    ],
)
def test_v0_padding_is_refused_elsewhere(layers, wanted):
    with pytest.raises(Error, match=wanted):
        upgrade.upgrade_net(net_of(layers), "f", [7, 8])


def test_v0_types_are_all_known_and_an_unknown_one_is_refused():
    for old, number in upgrade.V0_TYPES.items():
        net = upgrade.upgrade_net(net_of(f'layers {{ layer {{ type: "{old}" }} }}'))
        assert net.layer[0].type == upgrade.V1_TYPES[number]
    wanted = r"old.prototxt:3: layer 'c' \(convv\): unknown V0 layer type 'convv'; did you mean 'conv'\?"
    with pytest.raises(Error, match=wanted):
        upgrade.upgrade_net(net_of('layers { layer { name: "c" type: "convv" } }'), "old.prototxt", [3])
    with pytest.raises(Error, match="unknown V0 layer type 'zzz'; known: accuracy, bnll"):
        upgrade.upgrade_net(net_of('layers { layer { type: "zzz" } }'))


def test_v0_field_on_the_wrong_type_is_dropped_and_told():
    said = assert_becomes(
        'layers { layer { name: "r" type: "relu" kernelsize: 3 new_num: 4 } }', 'layer { name: "r" type: "ReLU" }'
    )
    assert said[:2] == [
        "layer 'r' (relu): 'kernelsize' means nothing there and was dropped",
        "layer 'r' (relu): 'new_num' means nothing there and was dropped",
    ]


def test_v0_every_field_has_a_place():
    special = {"name", "type", "blobs", "blobs_lr", "weight_decay", "hdf5_output_param"}
    unused = {"new_num", "new_channels"}  # of a layer that no Caffe has had since
    fields = set(caffe_pb2.V0LayerParameter.DESCRIPTOR.fields_by_name)
    assert fields == special | unused | set(upgrade.V0_FIELDS) | set(upgrade.V0_TRANSFORM)
    for name, types in upgrade.V0_FIELDS.values():
        for one in types:
            message = V1.DESCRIPTOR.fields_by_name[upgrade.V0_PARAMETERS[one]].message_type
            assert name in message.fields_by_name, (one, name)


def test_v0_and_v1_layers_in_one_net():
    assert_becomes(
        'layers { layer { name: "a" type: "relu" } } layers { name: "b" type: TANH }',
        'layer { name: "a" type: "ReLU" } layer { name: "b" type: "TanH" }',
    )


def test_v0_net_with_input_fields():
    assert_becomes(
        'input: "data" input_dim: 1 input_dim: 3 input_dim: 4 input_dim: 5 force_backward: true '
        'layers { layer { name: "p" type: "padding" pad: 3 } bottom: "data" top: "p" } '
        'layers { layer { name: "c" type: "conv" kernelsize: 2 } bottom: "p" top: "c" }',
        'force_backward: true '
        'layer { name: "input" type: "Input" top: "data" '
        '        input_param { shape { dim: 1 dim: 3 dim: 4 dim: 5 } } } '
        'layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { pad: 3 kernel_size: 2 } }',
    )


# V1


def test_v1_every_type_has_a_name():
    assert set(upgrade.V1_TYPES) == set(V1.LayerType.values())
    names = [name for name in upgrade.V1_TYPES.values() if name]
    assert len(set(names)) == len(names) == 39
    for number, name in upgrade.V1_TYPES.items():
        assert upgrade.upgrade_net(caffe_pb2.NetParameter(layers=[V1(type=number)])).layer[0].type == name
        # The names differ in underscores and case alone, but for the one exception.
        old = V1.LayerType.Name(number)
        assert name.upper() == {"SOFTMAX_LOSS": "SOFTMAXWITHLOSS", "NONE": ""}.get(old, old.replace("_", ""))


def test_v1_every_parameter_message_comes_along():
    count = 0
    for field in V1.DESCRIPTOR.fields:
        if not field.name.endswith("_param"):
            continue
        old = V1()
        getattr(old, field.name).SetInParent()
        for inner in field.message_type.fields:
            if inner.type == inner.TYPE_FLOAT and not hasattr(getattr(getattr(old, field.name), inner.name), "append"):
                setattr(getattr(old, field.name), inner.name, 2)
        sent = getattr(old, field.name).SerializeToString()
        new = upgrade.upgrade_net(caffe_pb2.NetParameter(layers=[old])).layer[0]
        assert new.HasField(field.name)
        assert getattr(new, field.name).SerializeToString() == sent
        count += 1
    assert count == 30


def test_v1_parameter_lists_become_param_messages():
    assert_becomes(
        """
        layers { name: "a" type: CONVOLUTION bottom: "x" top: "y" param: "w" param: "b" blob_share_mode: PERMISSIVE
                 blobs_lr: 1 blobs_lr: 2 blobs_lr: 0 weight_decay: 0.5 loss_weight: 3
                 include { phase: TRAIN } include { stage: "s" } exclude { min_level: 2 } }
        """,
        """
        layer { name: "a" type: "Convolution" bottom: "x" top: "y" loss_weight: 3
                param { name: "w" share_mode: PERMISSIVE lr_mult: 1 decay_mult: 0.5 }
                param { name: "b" lr_mult: 2 } param { lr_mult: 0 }
                include { phase: TRAIN } include { stage: "s" } exclude { min_level: 2 } }
        """,
    )


def test_v1_loss_without_a_top_and_accuracy_survive():
    assert_becomes(
        'layers { name: "loss" type: SOFTMAX_LOSS bottom: "ip" bottom: "label" } '
        'layers { name: "acc" type: ACCURACY bottom: "prob" bottom: "label" top: "acc" accuracy_param { top_k: 5 } }',
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" } '
        'layer { name: "acc" type: "Accuracy" bottom: "prob" bottom: "label" top: "acc" accuracy_param { top_k: 5 } }',
    )


def test_v1_blobs_are_kept_bit_for_bit():
    old = V1(name="a", type=V1.INNER_PRODUCT)
    old.blobs.add(num=1, channels=1, height=2, width=2, data=[0.1, float("inf"), -0.0, 1e-40], diff=[1, 2, 3, 4])
    old.blobs.add(double_data=[0.1])
    sent = [blob.SerializeToString() for blob in old.blobs]
    net = upgrade.upgrade_net(caffe_pb2.NetParameter(layers=[old]))
    assert [blob.SerializeToString() for blob in net.layer[0].blobs] == sent


def test_v1_beside_todays_layers_is_refused():
    with pytest.raises(Error, match="f: the net has 1 'layers' .old form. and 1 'layer'"):
        upgrade.upgrade_net(net_of('layers { type: RELU } layer { type: "ReLU" }'), "f")


# Data transformation


@pytest.mark.parametrize(
    ("old_type", "new_type", "parameter"),
    [("DATA", "Data", "data_param"), ("IMAGE_DATA", "ImageData", "image_data_param"),
     ("WINDOW_DATA", "WindowData", "window_data_param")],
)
def test_transformation_fields_move(old_type, new_type, parameter):
    fields = 'scale: 0.5 mean_file: "m" crop_size: 7 mirror: true'
    wanted = f'layer {{ name: "d" type: "{new_type}" {parameter} {{ source: "s" }} transform_param {{ {fields} }} }}'
    said = assert_becomes(
        f'layers {{ name: "d" type: {old_type} {parameter} {{ source: "s" {fields} }} }}', wanted)
    assert said[0] == (
        f"layer 'd' ({new_type}): scale, mean_file, crop_size, mirror moved from {parameter} to transform_param")
    assert_becomes(f'layer {{ name: "d" type: "{new_type}" {parameter} {{ source: "s" {fields} }} }}', wanted)


def test_transformation_given_twice():
    both = "data_param { scale: 2 mirror: true } transform_param { scale: 3 }"
    # V1: Caffe lets the old field win. V2: Caffe reads transform_param only, so that stays.
    assert upgrade.upgrade_net(net_of(f"layers {{ type: DATA {both} }}")).layer[0].transform_param.scale == 2
    layer = upgrade.upgrade_net(net_of(f'layer {{ type: "Data" {both} }}')).layer[0]
    assert (layer.transform_param.scale, layer.transform_param.mirror) == (3, True)


def test_scale_of_other_layers_stays():
    net = net_of('layers { type: POWER power_param { scale: 2 } data_param { scale: 3 } }')
    layer = upgrade.upgrade_net(net).layer[0]
    assert not layer.HasField("transform_param")
    assert (layer.power_param.scale, layer.data_param.scale) == (2, 3)


# Input fields


def test_input_shapes_become_one_layer_at_the_head():
    assert_becomes(
        'name: "n" input: "data" input_shape { dim: 1 dim: 3 } input: "label" input_shape { dim: 1 } '
        'layer { name: "a" type: "ReLU" bottom: "data" } layer { name: "i" type: "Input" top: "x" }',
        'name: "n" layer { name: "input" type: "Input" top: "data" top: "label" '
        '                  input_param { shape { dim: 1 dim: 3 } shape { dim: 1 } } } '
        'layer { name: "a" type: "ReLU" bottom: "data" } layer { name: "i" type: "Input" top: "x" }',
    )


def test_input_dims_come_in_fours():
    assert_becomes(
        'input: "a" input: "b" ' + " ".join(f"input_dim: {d}" for d in range(1, 9)),
        'layer { name: "input" type: "Input" top: "a" top: "b" input_param { '
        'shape { dim: 1 dim: 2 dim: 3 dim: 4 } shape { dim: 5 dim: 6 dim: 7 dim: 8 } } }',
    )
    with pytest.raises(Error, match="f: 2 inputs .a, b. but 4 input_dims; give 4 for each"):
        upgrade.upgrade_net(net_of('input: "a" input: "b" input_dim: [1, 2, 3, 4]'), "f")
    with pytest.raises(Error, match="1 input .a. but 2 input_shapes; give one for each"):
        upgrade.upgrade_net(net_of('input: "a" input_shape { dim: 1 } input_shape { dim: 1 }'))


def test_input_names_alone_are_dropped_as_in_old_weights():
    said = assert_becomes('input: "data" layers { type: RELU }', 'layer { type: "ReLU" }')
    assert said[-1] == "input data dropped: it has neither input_shape nor input_dim"


# BatchNorm


def test_batch_norm_statistics_are_held_fixed():
    assert_becomes(
        'layer { name: "bn" type: "BatchNorm" param { name: "m" lr_mult: 1 } param { decay_mult: 2 } param {} }',
        'layer { name: "bn" type: "BatchNorm" param { name: "m" lr_mult: 0 decay_mult: 0 } '
        'param { lr_mult: 0 decay_mult: 0 } param { lr_mult: 0 decay_mult: 0 } }',
    )
    for fine in ("", "param {}", "param { lr_mult: 1 } " * 2, "param { lr_mult: 0 decay_mult: 0 }" * 3):
        assert not upgrade.needs_upgrade(net_of(f'layer {{ type: "BatchNorm" {fine} }}'))
    assert not upgrade.needs_upgrade(net_of('layer { type: "Scale" param {} param {} param {} }'))


# Solvers


@pytest.mark.parametrize(
    ("old", "new"),
    [("SGD", "SGD"), ("NESTEROV", "Nesterov"), ("ADAGRAD", "AdaGrad"), ("RMSPROP", "RMSProp"),
     ("ADADELTA", "AdaDelta"), ("ADAM", "Adam")],
)
def test_solver_type_becomes_a_name(old, new):
    solver = upgrade.upgrade_solver(solver_of(f"base_lr: 1 solver_type: {old}"))
    assert solver == solver_of(f'base_lr: 1 type: "{new}"')


def test_solver_without_old_fields_stays():
    solver = solver_of('base_lr: 1 type: "Adam" snapshot_prefix: "x"')
    before = solver.SerializeToString()
    assert upgrade.upgrade_solver(solver, "some/solver.prototxt").SerializeToString() == before
    assert not upgrade.upgrade_solver(solver_of("base_lr: 1")).HasField("type")


def test_solver_of_two_types_is_refused():
    with pytest.raises(Error, match=r"s.prototxt: both solver_type \(ADAM\) and type \('SGD'\)"):
        upgrade.upgrade_solver(solver_of('solver_type: ADAM type: "SGD"'), "s.prototxt")


def test_snapshot_prefix_follows_the_solvers_path(tmp_path):
    prefix = lambda given, path: upgrade.upgrade_solver(solver_of(given), path).snapshot_prefix  # noqa: E731
    assert prefix("", "models/a.b/solver.prototxt") == "models/a.b/solver"
    assert prefix('snapshot_prefix: ""', "solver.prototxt") == "solver"
    assert prefix("", "") == ""
    assert prefix(f'snapshot_prefix: "{tmp_path}"', "x/my_solver.prototxt") == str(tmp_path / "my_solver")
    assert prefix(f'snapshot_prefix: "{tmp_path}/none"', "x/my_solver.prototxt") == f"{tmp_path}/none"


def test_nets_inside_a_solver_are_upgraded():
    solver = upgrade.upgrade_solver(
        solver_of("net_param { layers { type: RELU } } test_net_param { layers { type: TANH } } test_net_param {}"))
    assert solver.net_param.layer[0].type == "ReLU"
    assert solver.test_net_param[0].layer[0].type == "TanH"
    assert not solver.HasField("train_net_param")


# Reading and the command


def test_read_net_and_read_solver_upgrade(tmp_path):
    net = tmp_path / "net.prototxt"
    net.write_text('layers {\n  name: "a"\n  type: RELU;\n}\n')
    assert text.read_net(net).layer[0].type == "ReLU"
    net.write_text('layers { layer { type: "relu" } }\n\nlayers {\n  layer { name: "q" type: "bogus" }\n}\n')
    with pytest.raises(Error, match=rf"^{net}:3: layer 'q' \(bogus\): unknown V0"):
        text.read_net(str(net))
    solver = tmp_path / "solver.prototxt"
    solver.write_text("solver_type: ADAM")
    assert text.read_solver(solver) == solver_of(f'type: "Adam" snapshot_prefix: "{tmp_path}/solver"')


def test_command_upgrades_texts_of_nets_and_solvers(tmp_path, capsys):
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text('# a net\nname: "n" layers { name: "a" type: RELU }')
    assert upgrade_file.main([str(old), str(new)]) == 0
    assert text.read(new, caffe_pb2.NetParameter) == net_of('name: "n" layer { name: "a" type: "ReLU" }')
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"{old}: 1 V1 layer ('layers') became 'layer'\n")
    old.write_text("base_lr: 0.1 solver_type: ADAM debug_info: true")
    assert upgrade_file.main([str(old)]) == 0
    out, err = capsys.readouterr()
    assert solver_of(out) == solver_of('base_lr: 0.1 type: "Adam" debug_info: true')
    assert "solver_type ADAM became type 'Adam'" in err
    assert upgrade_file.main([str(new), str(old)]) == 0
    assert old.read_bytes() == new.read_bytes()
    assert "is up to date" in capsys.readouterr().err


def test_command_upgrades_weights(tmp_path, capsys):
    old, new = tmp_path / "old.caffemodel", tmp_path / "new.caffemodel"
    net = net_of('layers { name: "a" type: INNER_PRODUCT blobs { data: 1 data: 2 } blobs_lr: 1 }')
    old.write_bytes(net.SerializeToString())
    assert upgrade_file.main([str(old), str(new)]) == 0
    assert caffe_pb2.NetParameter.FromString(new.read_bytes()) == upgrade.upgrade_net(net)
    with pytest.raises(SystemExit):
        upgrade_file.main([str(old)])
    assert "say where to write" in capsys.readouterr().err


def test_command_refuses_what_is_no_net(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for data, wanted in (
        (b"\x00\x01\x02", "not a .caffemodel, or is damaged"),
        (caffe_pb2.SolverState(iter=3).SerializeToString(), "not a .caffemodel|holds no layers"),
        (b"layers { type: RELUU }", "unknown|wants"),
        (b"", "is empty"),
    ):
        old.write_bytes(data)
        with pytest.raises(Error, match=wanted):
            upgrade_file.main([str(old), str(new)])
        assert not new.exists()


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as stop:
        upgrade_file.main(["--help"])
    assert stop.value.code == 0
    assert "example:\n  python -m netspec.upgrade_file" in capsys.readouterr().out
