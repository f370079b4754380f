"""Matrix products on a card: C = alpha op(A) op(B) + beta C, all row-major and float32, op transposing or not.

`gemm_cuda` is plain: a thread sums one value of C in float32, in order. With beta 0 whatever C held is not read.
"""

import numpy as np

from layers.core.cuda.kernel import cuda, kernel

TENSOR = (8, 0)  # capability from which on tensor cores take tf32


def gemm(card, a, b, c, m, n, k, transpose_a=False, transpose_b=False, alpha=1, beta=0, bias=None):
    """Queue C (m, n) = alpha op(A) op(B) + beta C + bias, with op(A) (m, k) and op(B) (k, n).

    Parameters
    ----------
    a, b, c : layers.core.cuda.card.Span
    transpose_a, transpose_b : bool
        Whether A lies as (k, m), and B as (n, k).
    bias : Span, optional
        (n,), added to every row.
    """
    a_row, a_step = (1, m) if transpose_a else (k, 1)
    b_step, b_column = (1, k) if transpose_b else (n, 1)
    card.run(gemm_cuda, m * n, a, b, a if bias is None else bias, c, n, k, a_row, a_step, b_step, b_column, alpha, beta,
             bias is not None)


@kernel("float*, float*, float*, float*, int, int, long, long, long, long, float, float, bool, int")
def gemm_cuda(a, b, bias, c, n, k, a_row, a_step, b_step, b_column, alpha, beta, biased, count):
    """All values of C; A[i, l] is a[i * a_row + l * a_step], B[l, j] is b[l * b_step + j * b_column]."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row, column = i // n, i % n
        total = np.float32(0)
        for step in range(k):
            total += a[row * a_row + step * a_step] * b[step * b_step + column * b_column]
        total *= alpha
        if beta != 0:
            total += beta * c[i]
        if biased:
            total += bias[column]
        c[i] = total
