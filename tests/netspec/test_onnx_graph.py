import numpy as np
import pytest

from layers.core.net import Net
from netspec import caffe_pb2, onnx_graph, text
from netspec.errors import Error, UnknownName
from netspec.onnx_graph import to_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

INPUT = "layer { name: 'in' type: 'Input' top: 'data' input_param { shape { %s } } }\n"


def net_of(layers, shape=(2, 6, 9, 11), more=""):
    """Return (message, Net with random parameters): layers written as text over one input `data`."""
    message = text.parse(INPUT % " ".join(f"dim: {n}" for n in shape) + more + layers, caffe_pb2.NetParameter())
    net = Net(message, seed=1)
    rng = np.random.default_rng(1)
    for name, blobs in net.params.items():
        low = 0.1 if net.layer_dict[name].type in ("BatchNorm", "BN") else -1  # variances
        for blob in blobs:
            blob.data[...] = rng.uniform(low, 1, blob.shape)
    return message, net


def arrays_of(net):
    return {name: [blob.data.copy() for blob in blobs] for name, blobs in net.params.items()}


def run(model, inputs):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs)))


def near(array, ours, tolerance=1e-5):
    return array.shape == ours.shape and abs(array - ours).max() <= tolerance * max(1, abs(ours).max())


def check(layers, shape=(2, 6, 9, 11), more="", low=-2, high=2, free=False, tolerance=2e-6):
    message, net = net_of(layers, shape, more)
    rng = np.random.default_rng(2)
    inputs = {name: rng.uniform(low, high, net.blobs[name].shape).astype(np.float32) for name in net.inputs}
    for name, array in inputs.items():
        net.blobs[name].data[...] = array
    net.forward()
    found = run(to_onnx(message, arrays_of(net), free=free), inputs)
    assert sorted(found) == net.outputs
    for name, array in found.items():
        ours = net.blobs[name].data
        assert near(array, ours, tolerance), name


def layer(kind, fields="", bottom="data", top="y", name="it"):
    bottoms = "".join(f" bottom: '{one}'" for one in bottom.split())
    tops = "".join(f" top: '{one}'" for one in top.split())
    return f"layer {{ name: '{name}' type: '{kind}'{bottoms}{tops} {fields} }}\n"


@pytest.mark.parametrize("fields", [
    "num_output: 4 kernel_size: 3 pad: 1", "num_output: 9 kernel_size: 3 group: 3 stride: 2 bias_term: false",
    "num_output: 6 group: 6 kernel_h: 2 kernel_w: 3 pad_h: 1 pad_w: 0 stride_h: 1 stride_w: 2",
    "num_output: 2 kernel_size: 3 dilation: 2 pad: 2"])
def test_convolutions(fields):
    check(layer("Convolution", f"convolution_param {{ {fields} }}"), tolerance=1e-5)


@pytest.mark.parametrize("fields", [
    "num_output: 4 kernel_size: 4 stride: 2", "num_output: 6 group: 6 kernel_size: 3 stride: 2 pad: 1 bias_term: false"])
def test_deconvolutions(fields):
    check(layer("Deconvolution", f"convolution_param {{ {fields} }}"), tolerance=1e-5)


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize("size", [7, 8, 9, 10, 11])
@pytest.mark.parametrize("fields", [
    "kernel_size: 2 stride: 2", "kernel_size: 3 stride: 2", "kernel_size: 3 stride: 2 pad: 1", "kernel_size: 3 pad: 1",
    "kernel_size: 3 stride: 2 pad: 2", "kernel_size: 4 stride: 3 pad: 1", "kernel_size: 2 stride: 2 pad: 1",
    "kernel_size: 3 stride: 2 round_mode: FLOOR", "kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0",
    "kernel_size: 5 stride: 4 pad: 1", "global_pooling: true"])
def test_poolings_round_and_divide_as_caffe(pool, size, fields):
    check(layer("Pooling", f"pooling_param {{ pool: {pool} {fields} }}"), (2, 3, size, 19 - size))


@pytest.mark.parametrize("kind, fields, low", [
    ("ReLU", "", -2), ("ReLU", "relu_param { negative_slope: 0.2 }", -2), ("PReLU", "", -2), ("Sigmoid", "", -2),
    ("PReLU", "prelu_param { channel_shared: true }", -2), ("ELU", "elu_param { alpha: 0.7 }", -2), ("TanH", "", -2),
    ("AbsVal", "", -2), ("BNLL", "", -2), ("Power", "power_param { power: 1.5 scale: 2 shift: 5 }", -2),
    ("Exp", "exp_param { base: 3 scale: 0.5 shift: 1 }", -2), ("Log", "log_param { base: 10 shift: 1 }", 0),
    ("Clip", "clip_param { min: -1 max: 0.5 }", -2), ("Swish", "swish_param { beta: 2 }", -2),
    ("LRN", "lrn_param { local_size: 5 alpha: 0.3 beta: 0.6 k: 2 }", -2), ("Softmax", "", -2),
    ("LRN", "lrn_param { local_size: 3 alpha: 0.3 beta: 0.6 norm_region: WITHIN_CHANNEL }", -2),
    ("Softmax", "softmax_param { axis: -1 }", -2), ("Flatten", "", -2), ("Flatten", "flatten_param { axis: 2 }", -2),
    ("Reshape", "reshape_param { shape { dim: 0 dim: 3 dim: -1 } }", -2), ("Dropout", "", -2), ("Scale", "", -2),
    ("Scale", "scale_param { bias_term: true axis: 2 num_axes: 2 }", -2), ("Scale", "scale_param { num_axes: 0 }", -2),
    ("Bias", "", -2), ("InnerProduct", "inner_product_param { num_output: 5 }", -2),
    ("InnerProduct", "inner_product_param { num_output: 5 axis: 2 transpose: true bias_term: false }", -2),
    ("ArgMax", "", -2), ("ArgMax", "argmax_param { axis: -2 }", -2), ("Threshold", "threshold_param { threshold: 0.5 }", -2),
    ("Tile", "tile_param { axis: 2 tiles: 3 }", -2), ("Reduction", "reduction_param { axis: 2 coeff: 0.5 }", -2),
    ("Reduction", "reduction_param { operation: MEAN axis: -1 }", -2),
    ("Reduction", "reduction_param { operation: ASUM axis: 1 }", -2),
    ("Reduction", "reduction_param { operation: SUMSQ axis: 1 }", -2), ("BatchNorm", "batch_norm_param { eps: 0.01 }", -2),
    ("ReLU6", "", -9), ("ReLU6", "relu6_param { negative_slope: 0.1 }", -9),
    ("Permute", "permute_param { order: 0 order: 2 }", -2),
    ("Normalize", "", -2), ("Normalize", "norm_param { across_spatial: false channel_shared: false }", -2),
    ("BN", "bn_param { bn_mode: INFERENCE }", -2), ("BN", "bn_param { moving_average: true var_eps: 0.01 }", -2),
    ("Interp", "interp_param { height: 17 width: 5 }", -2), ("Interp", "interp_param { zoom_factor: 2 pad_beg: -1 }", -2),
    ("Interp", "interp_param { shrink_factor: 2 pad_end: -1 }", -2),
    ("DepthwiseConvolution", "convolution_param { num_output: 6 kernel_size: 3 pad: 1 }", -2),
    ("MVN", "", -2), ("MVN", "mvn_param { across_channels: true normalize_variance: false }", -2)])
def test_one_layer(kind, fields, low):
    check(layer(kind, fields), low=low, tolerance=1e-5)


def test_several_bottoms_and_tops():
    more = "".join(INPUT.replace("'in'", f"'in {name}'").replace("'data'", f"'{name}'") % "dim: 2 dim: 6 dim: 9 dim: 11"
                   for name in ("b", "c"))
    check(layer("Eltwise", "eltwise_param { coeff: 0.5 coeff: -1 coeff: 1 }", "data b c"), more=more)
    check(layer("Eltwise", "eltwise_param { operation: PROD }", "data b c"), more=more)
    check(layer("Eltwise", "eltwise_param { operation: MAX }", "data b c"), more=more)
    check(layer("Concat", "concat_param { axis: 2 }", "data b c"), more=more)
    check(layer("Concat", "", "data b c"), more=more)
    check(layer("Slice", "slice_param { slice_point: 1 slice_point: 4 }", "data", "x y z"))
    check(layer("Split", "", "data", "x y") + layer("ReLU", "", "x", "z", "after"))
    check(layer("Scale", "", "data s"), more=INPUT.replace("'in'", "'in s'").replace("'data'", "'s'") % "dim: 6")


def test_rows_picked_by_number():
    message, net = net_of(layer("Embed", "embed_param { num_output: 3 input_dim: 5 }", "data", "y", "embed")
                          + layer("BatchReindex", "", "y data", "z", "pick"), (4,))
    net.blobs["data"].data[...] = numbers = np.array([3, 0, 3, 1], np.float32)
    net.forward()
    assert near(run(to_onnx(message, arrays_of(net)), {"data": numbers})["z"], net.blobs["z"].data)


def test_factors_for_channels_and_another_blob_are_added():
    more = layer("Pooling", "pooling_param { global_pooling: true pool: AVE }", "data", "a", "pool") + layer(
        "ReLU", "", "data", "b", "relu")
    check(more + layer("Axpy", bottom="a data b"), tolerance=1e-5)


def test_blobs_in_place_have_their_last_value():
    check(layer("Convolution", "convolution_param { num_output: 4 kernel_size: 3 }", "data", "y", "one")
          + layer("ReLU", "", "y", "y", "two") + layer("Dropout", "", "y", "y", "three")
          + layer("Scale", "", "y", "y", "four"), tolerance=1e-5)


def small_fcn():
    def convolution(name, bottom, outputs, size, pad=0):
        return (layer("Convolution", f"convolution_param {{ num_output: {outputs} kernel_size: {size} pad: {pad} }}", bottom,
                      name, name) + layer("ReLU", "", name, name, f"relu {name}"))

    def up(name, bottom, size):
        return layer("Deconvolution", f"convolution_param {{ num_output: 4 kernel_size: {2 * size} stride: {size} "
                     "bias_term: false }", bottom, name, name)

    pool = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
    return (convolution("conv1", "data", 5, 3, 10) + layer("Pooling", pool, "conv1", "pool1", "pool1")
            + convolution("conv2", "pool1", 7, 3, 1) + layer("Pooling", pool, "conv2", "pool2", "pool2")
            + convolution("fc", "pool2", 8, 3) + convolution("score2", "fc", 4, 1) + up("up2", "score2", 2)
            + convolution("score1", "pool1", 4, 1) + layer("Crop", "crop_param { offset: 1 }", "score1 up2", "cropped", "crop1")
            + layer("Eltwise", "", "up2 cropped", "sum", "sum") + up("up1", "sum", 2)
            + layer("Crop", "crop_param { axis: 2 offset: 5 offset: 6 }", "up1 data", "score", "crop"))


@pytest.mark.parametrize("shape", [(1, 3, 23, 26), (2, 3, 24, 21)])
@pytest.mark.parametrize("free", [False, True])
def test_a_whole_fcn(shape, free):
    check(small_fcn(), shape, free=free, tolerance=1e-5)


def test_free_sizes_are_right_for_any_size():
    message, net = net_of(small_fcn(), (1, 3, 30, 30))
    model = to_onnx(message, arrays_of(net), free=True)
    for height, width in ((23, 26), (31, 20), (30, 30)):
        image = np.random.default_rng(height).standard_normal((1, 3, height, width), np.float32)
        net.blobs["data"].reshape(*image.shape)
        net.blobs["data"].data[...] = image
        net.forward()
        assert near(run(model, {"data": image})["score"], net.blobs["score"].data)


@pytest.mark.parametrize("free, kind, fields, what", [
    (False, "Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 }", "draws its values"),
    (False, "ArgMax", "argmax_param { out_max_val: true }", "gives out more than the place"),
    (False, "Im2col", "convolution_param { kernel_size: 1 }", "has no equal in ONNX here; these have: AbsVal, "),
    (False, "BN", "", "each batch's own statistics"),
    (False, "BatchNorm", "batch_norm_param { use_global_stats: false }", "each batch's own statistics"),
    (True, "Reshape", "reshape_param { shape { dim: 0 dim: -1 } }", "without --free"),
    (True, "Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", "export it for one size"),
    (False, "Pooling", "pooling_param { kernel_size: 1 stride: 4 }", "wholly outside")])
def test_what_has_no_equal_is_refused(free, kind, fields, what):
    message = text.parse(INPUT % "dim: 1 dim: 2 dim: 6 dim: 6" + layer(kind, fields), caffe_pb2.NetParameter())
    with pytest.raises(Error, match=what):
        to_onnx(message, {}, free=free)


def test_weights_that_do_not_fit_are_refused():
    message, net = net_of(layer("Convolution", "convolution_param { num_output: 4 kernel_size: 3 }"))
    with pytest.raises(Error, match="needs parameter 0, the weights hold 0"):
        to_onnx(message, {})
    with pytest.raises(Error, match=r"needs a parameter 1 of shape \[4\], the weights hold \[3\]"):
        to_onnx(message, {"it": [arrays_of(net)["it"][0], np.zeros(3, np.float32)]})
    with pytest.raises(UnknownName, match="no blob 'z'"):
        to_onnx(message, arrays_of(net), outputs=["z"])


def test_every_type_says_its_form_in_its_own_file_and_only_those_are_known():
    known = onnx_graph.known()
    assert {"Input", "Convolution", "ReLU", "Crop", "Deconvolution"} <= set(known)
    assert "SoftmaxWithLoss" not in known and "Python" not in known
