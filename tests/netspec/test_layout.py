import itertools
import random

from netspec import layout


def overlaps(sizes, centres):
    for (one, (x0, y0)), (other, (x1, y1)) in itertools.combinations(zip(sizes, centres), 2):
        if abs(x0 - x1) < (one[0] + other[0]) / 2 - 1e-6 and abs(y0 - y1) < (one[1] + other[1]) / 2 - 1e-6:
            return True
    return False


def test_a_chain_is_a_straight_line():
    centres, lines, (width, height) = layout.place([(80, 20), (120, 40), (60, 20)], [(0, 1), (1, 2)])
    assert len({x for x, _ in centres}) == 1 and width == 120
    assert height == 80 + 2 * layout.ROW_GAP
    assert lines[0] == [(60, 20), (60, 20 + layout.ROW_GAP)]


def test_edges_go_down_and_nodes_do_not_overlap_whatever_the_graph():
    rng = random.Random(3)
    for _ in range(30):
        count = rng.randint(1, 25)
        sizes = [(rng.randint(20, 200), rng.randint(10, 60)) for _ in range(count)]
        edges = sorted({(rng.randrange(node), node) for node in range(1, count) for _ in range(rng.randint(0, 3))})
        centres, lines, (width, height) = layout.place(sizes, edges)
        assert not overlaps(sizes, centres)
        for (one, other), line in zip(edges, lines):
            assert line[0][1] <= line[-1][1] and centres[one][1] < centres[other][1]
            assert [y for _, y in line] == sorted(y for _, y in line)
        for (x, y), (wide, high) in zip(centres, sizes):
            assert x - wide / 2 >= -1e-6 and x + wide / 2 <= width + 1e-6
            assert y - high / 2 >= -1e-6 and y + high / 2 <= height + 1e-6


def test_a_long_edge_goes_around_the_nodes_that_it_passes():
    sizes = [(100, 20)] * 4
    centres, lines, _ = layout.place(sizes, [(0, 1), (1, 2), (2, 3), (0, 3)])
    for x, y in lines[3][1:-1]:
        assert all(abs(x - cx) > 50 or not cy - 10 < y < cy + 10 for cx, cy in centres[1:3])


def test_crossings_that_need_not_be_are_gone():
    # Two chains given in turns: 0 2 4 and 1 3 5.
    edges = [(0, 3), (1, 2), (2, 5), (3, 4)]
    centres, _, _ = layout.place([(50, 20)] * 6, edges)
    assert (centres[0][0] < centres[1][0]) == (centres[3][0] < centres[2][0]) == (centres[4][0] < centres[5][0])


def test_what_nothing_feeds_stands_right_above_what_it_feeds():
    centres, _, _ = layout.place([(50, 20)] * 5, [(0, 1), (1, 2), (2, 4), (3, 4)])
    assert centres[3][1] == centres[2][1]


def test_an_empty_graph_has_no_size():
    assert layout.place([], []) == ([], [], (0, 0))
