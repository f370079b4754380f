"""Recurrent layers as plain loops, and as nets that are unrolled in time: what Caffe makes inside."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_loops(x, cont, hidden, cells, w_x, b, w_h, static=None, w_s=None):
    """Return (all h, last h, last c), float64."""
    x, outputs = x.reshape(*x.shape[:2], -1).astype("f8"), []
    for step in range(len(x)):
        rows_h, rows_c = np.empty_like(hidden), np.empty_like(cells)
        for n in range(x.shape[1]):
            gates = w_x @ x[step, n] + b + w_h @ (cont[step, n] * hidden[n])
            if static is not None:
                gates = gates + w_s @ static[n].reshape(-1)
            i, f, o, g = np.split(gates, 4)
            rows_c[n] = cont[step, n] * sigmoid(f) * cells[n] + sigmoid(i) * np.tanh(g)
            rows_h[n] = sigmoid(o) * np.tanh(rows_c[n])
        hidden, cells = rows_h, rows_c
        outputs.append(hidden)
    return np.array(outputs), hidden, cells


def rnn_loops(x, cont, hidden, w_x, b, w_h, w_o, b_o, static=None, w_s=None):
    """Return (all o, last h), float64."""
    x, outputs = x.reshape(*x.shape[:2], -1).astype("f8"), []
    for step in range(len(x)):
        rows = np.empty_like(hidden)
        for n in range(x.shape[1]):
            inputs = w_x @ x[step, n] + b + w_h @ (cont[step, n] * hidden[n])
            if static is not None:
                inputs = inputs + w_s @ static[n].reshape(-1)
            rows[n] = np.tanh(inputs)
        hidden = rows
        outputs.append(np.tanh(hidden @ w_o.T + b_o))
    return np.array(outputs), hidden


def unrolled_lstm(x, static, size):
    """Return the prototxt of an LSTM over sequences of shape `x` with a static input of shape `static`, begun at zero."""
    steps, streams = x[:2]

    def shape(dims):
        return "shape { " + " ".join(f"dim: {n}" for n in dims) + " }"

    def product(name, bottom, top, width, axis, params):
        names = " ".join(f'param {{ name: "{one}" }}' for one in params)
        return (f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{top}" {names} inner_product_param {{ '
                f'num_output: {width} axis: {axis} bias_term: {str(len(params) > 1).lower()} }} }}')

    def cut(bottom, top):
        tops = " ".join(f'top: "{top}_{t}"' for t in range(1, steps + 1))
        return f'layer {{ name: "cut_{top}" type: "Slice" bottom: "{bottom}" {tops} slice_param {{ axis: 0 }} }}'

    state = (1, streams, size)
    lines = [
        'force_backward: true',
        f'layer {{ name: "in" type: "Input" top: "x" top: "cont" top: "static" top: "h_0" top: "c_0" input_param {{ {shape(x)} '
        f'{shape(x[:2])} {shape(static)} {shape(state)} {shape(state)} }} }}',
        cut("cont", "cont"), product("of_x", "x", "wx", 4 * size, 2, ["w_x", "b"]), cut("wx", "wx"),
        product("of_static", "static", "flat", 4 * size, 1, ["w_s"]),
        f'layer {{ name: "as_step" type: "Reshape" bottom: "flat" top: "ws" reshape_param {{ '
        f'{shape((1, streams, 4 * size))} }} }}']
    for t in range(1, steps + 1):
        lines += [
            f'layer {{ name: "go_{t}" type: "Scale" bottom: "h_{t - 1}" bottom: "cont_{t}" top: "gone_{t}" '
            'scale_param { axis: 0 } }',
            product(f"of_h_{t}", f"gone_{t}", f"wh_{t}", 4 * size, 2, ["w_h"]),
            f'layer {{ name: "sum_{t}" type: "Eltwise" bottom: "wh_{t}" bottom: "wx_{t}" bottom: "ws" top: "gates_{t}" }}',
            f'layer {{ name: "unit_{t}" type: "LSTMUnit" bottom: "c_{t - 1}" bottom: "gates_{t}" bottom: "cont_{t}" top: "c_{t}" '
            f'top: "h_{t}" propagate_down: true propagate_down: true propagate_down: false }}']
    bottoms = " ".join(f'bottom: "h_{t}"' for t in range(1, steps + 1))
    return "\n".join([*lines, f'layer {{ name: "all" type: "Concat" {bottoms} top: "h" concat_param {{ axis: 0 }} }}'])
