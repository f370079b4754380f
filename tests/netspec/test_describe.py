import pytest
from google.protobuf import text_format

from netspec import caffe_pb2, describe


@pytest.mark.parametrize("prototxt, words", [
    ('convolution_param { num_output: 64 kernel_size: 3 stride: 1 pad: 1 }', "64 3x3 pad 1"),
    ('convolution_param { num_output: 8 kernel_h: 3 kernel_w: 5 stride_h: 2 stride_w: 2 group: 4 }', "8 3x5 /2 group 4"),
    ('convolution_param { num_output: 8 kernel_size: 3 kernel_size: 5 dilation: 2 bias_term: false }',
     "8 3x5 dilation 2 no bias_term"),
    ('pooling_param { pool: AVE global_pooling: true }', "AVE global_pooling"),
    ('eltwise_param { operation: SUM coeff: 0.5 coeff: -1 }', "SUM coeff 0.5 -1"),
    ('crop_param { offset: 19 }', "offset 19"),
    ('lrn_param { local_size: 5 alpha: 1e-4 }', "local_size 5 alpha 0.0001"),
    ('python_param { module: "voc_layers" layer: "L" param_str: "{}" }', "voc_layers L"),
    ('slice_param { slice_point: 1 slice_point: 2 slice_point: 3 slice_point: 4 slice_point: 5 }', "slice_point"),
    ('loss_param { ignore_label: 255 }', ""),
])
def test_settings_are_said_in_few_words(prototxt, words):
    assert describe.settings(text_format.Parse(prototxt, caffe_pb2.LayerParameter())) == words


def test_long_settings_are_cut():
    layer = caffe_pb2.LayerParameter()
    layer.python_param.module = "m" * 100
    assert len(describe.settings(layer)) == describe.LONGEST


def test_rates_and_counts():
    assert describe.rates(()) == "" and describe.rates((0, 0)) == "fixed" and describe.rates((1, 2)) == "1 2"
    assert [describe.count(n) for n in (0, 999, 1000, 36928, 2359808, 134000000, 182e9)] == [
        "0", "999", "1.00 k", "36.9 k", "2.36 M", "134 M", "182 G"]
