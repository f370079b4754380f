"""A check for layers whose kernels are split over threads: the number of threads must not change a bit."""

import numpy as np

from layers.core.cpu import parallel
from netspec import caffe_pb2
from tests.support import make_layer


def check_same_bits(text, bottoms, propagate_down=None, phase=caffe_pb2.TRAIN, params=None):
    """Run forward and backward with 1, 2 and 3 threads, also on small arrays; every array must be the same."""
    kept, small = parallel.threads(), parallel.SMALL
    results = []
    try:
        parallel.SMALL = 0
        for threads in (1, 2, 3):
            parallel.set_threads(threads)
            layer, bottom, top = make_layer(text, bottoms, phase, params=params)
            layer.forward(bottom, top)
            for i, blob in enumerate(top):
                blob.diff[...] = np.random.RandomState(i).uniform(0.5, 1.5, blob.shape)
            wanted = propagate_down or [True] * len(bottom)
            layer.backward(top, wanted, bottom)
            arrays = [blob.data.copy() for blob in top] + [b.diff.copy() for b, w in zip(bottom, wanted) if w]
            results.append([a.tobytes() for a in arrays + [blob.diff for blob in layer.blobs]])
    finally:
        parallel.SMALL = small
        parallel.set_threads(kept)
    assert results[0] == results[1] == results[2]
