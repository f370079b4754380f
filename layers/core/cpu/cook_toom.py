"""The matrices of Winograd's (Cook and Toom's) minimal filtering F(m, r), exact.

m outputs of a filter with r taps need n = m + r - 1 products instead of m r:

    y = AT ((G g) * (BT d)),    d: n inputs, g: r taps, y: m outputs

The products are those of polynomials evaluated at n points, of which the last is infinity. In two dimensions the
matrices are applied to the rows and to the columns.

The points decide the error. For F(4, 3) the usual 0, +-1, +-2, infinity lose 4 to 6 times more digits than
0, +-3/4, +-3/2, infinity, at the same cost. Each row of BT has a coefficient 1, which saves a multiplication.

Source: A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016; the construction is that of
Cook (1966) and Toom (1963).
"""

from fractions import Fraction

POINTS = {
    (2, 3): (0, 1, -1),
    (4, 3): (0, Fraction(3, 4), Fraction(-3, 4), Fraction(3, 2), Fraction(-3, 2)),
    (2, 7): (0, 1, -1, 2, -2, Fraction(1, 2), Fraction(-1, 2)),
}


def matrices(m, r, points=None):
    """Return (AT (m, n), G (n, r), BT (n, n)) as lists of rows of Fractions."""
    points = [Fraction(p) for p in (POINTS[m, r] if points is None else points)]
    n = m + r - 1
    if len(points) != n - 1 or len(set(points)) != n - 1:
        raise ValueError(f"F({m}, {r}) needs {n - 1} different points, not {points}")
    at = [[p**j for p in points] + [Fraction(j == m - 1)] for j in range(m)]
    g, bt = [], []
    for p in points:
        others = [q for q in points if q != p]
        row = _product_of_roots(others)
        scale = Fraction(1)
        for q in others:
            scale *= p - q
        bt.append([*row, Fraction(0)])
        g.append([p**j / scale for j in range(r)])
    bt.append(_product_of_roots(points))
    g.append([Fraction(j == r - 1) for j in range(r)])
    return at, g, bt


def transposed(matrix):
    """Return the transpose of a list of rows."""
    return [list(column) for column in zip(*matrix)]


def _product_of_roots(roots):
    """Return the coefficients of the product of (x - root), constant first."""
    row = [Fraction(1)]
    for root in roots:
        row = [a - root * b for a, b in zip([Fraction(0), *row], [*row, Fraction(0)])]
    return row
