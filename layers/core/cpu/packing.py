"""Packing: the operands of a matrix product in the order in which the micro-kernel reads them.

A (left) becomes panels of `height` rows: [k / 16][row][16]. B (right) becomes panels of ISA.columns columns:
[k][column]. What is missing at the edges is zero, so that the micro-kernel needs no cases. Operands are read by rows or,
where they are stored transposed ("turned"), through transposes of 16 x 16 in registers.

The right operand can also be the columns of an image (`patches`), which are made here, panel by panel.
"""

from layers.core.cpu.compiled import compiled, part_of_kernel
from layers.core.cpu.isa import BLOCK, ISA
from layers.core.cpu.moves import copy, copy16, copy_first, get, put, transpose16, zero
from layers.core.cpu.patches import patch_row

ROWS, TURNED, PATCHES, TURNED_PATCHES = range(4)  # how the right operand is stored
COLUMNS = ISA.columns
DEPTH = 256  # k in a block of the right operand: panels of this depth fit the caches of the first and second level
# Scratch of one thread beside the packed block, in floats: a row of columns, or 16 rows of DEPTH.
LINES = BLOCK * (DEPTH + BLOCK)
APART = 128  # bytes between panels: 2^15 apart they would all fall into the same lines of the first-level cache


@compiled
def pack_left(a, row_bytes, turned, height, rows, left, k_first, k_last, target, spare):
    """Pack one panel: `rows` (of `height`) rows from the address `a` on, k in [k_first, k_last).

    `left` rows are left in the matrix from there on. If `turned`, A is stored as [k][row]. `spare` is the address of
    16 x 16 floats.
    """
    for k in range(k_first, k_last, BLOCK):
        count = min(BLOCK, k_last - k)
        block = target + (k - k_first) * height * 4
        if rows < height or count < BLOCK:
            zero(block, height * BLOCK)
        if not turned:
            for m in range(rows):
                copy_first(block + m * BLOCK * 4, a + m * row_bytes + k * 4, count)
        elif count == BLOCK and rows == height:
            # Only `height` of the 16 columns are ours; the others may lie behind the matrix's end.
            source, source_row = a + k * row_bytes, row_bytes
            if left < BLOCK:
                for i in range(BLOCK):
                    copy_first(spare + i * BLOCK * 4, source + i * row_bytes, height)
                source, source_row = spare, BLOCK * 4
            transpose16(source, source_row, spare, BLOCK * 4)
            copy(block, spare, height * BLOCK)
        else:
            for i in range(count):
                for m in range(rows):
                    put(block + (m * BLOCK + i) * 4, get(a + (k + i) * row_bytes + m * 4))


@part_of_kernel
def pack_right(b, row_bytes, kind, geometry, k_first, k_count, column, columns, target, lines):
    """Pack k in [k_first, k_first + k_count), columns [column, column + columns) to panels of [k_count rounded up to 4].

    `b` is the address of the matrix, or of the image whose columns are the matrix; `lines` that of LINES floats.
    """
    depth = (k_count + 3) // 4 * 4
    panels = (columns + COLUMNS - 1) // COLUMNS
    panel_bytes = depth * COLUMNS * 4 + APART
    whole = columns // COLUMNS
    rest = columns - whole * COLUMNS
    for panel in range(panels):
        if depth > k_count:
            zero(target + panel * panel_bytes + k_count * COLUMNS * 4, (depth - k_count) * COLUMNS)
    if kind in (ROWS, PATCHES):
        for k in range(k_count):
            source = b + (k_first + k) * row_bytes + column * 4
            if kind == PATCHES:
                patch_row(geometry, b, k_first + k, column, columns, lines)
                source = lines
            place = target + k * COLUMNS * 4
            for _ in range(whole):
                for part in range(0, COLUMNS, BLOCK):
                    copy16(place + part * 4, source + part * 4)
                source += COLUMNS * 4
                place += panel_bytes
            if rest:
                zero(place, COLUMNS)
                copy(place, source, rest)
        return
    for first in range(0, columns, BLOCK):
        count = min(BLOCK, columns - first)
        place = target + first // COLUMNS * panel_bytes + first % COLUMNS * 4
        if count < BLOCK and first % COLUMNS + BLOCK < COLUMNS:
            for k in range(depth):  # groups of 16 columns that nothing else writes
                zero(place + k * COLUMNS * 4 + BLOCK * 4, COLUMNS - first % COLUMNS - BLOCK)
        source, source_row = b + (column + first) * row_bytes + k_first * 4, row_bytes
        if kind == TURNED_PATCHES or count < BLOCK or k_count % BLOCK:
            line_row = (DEPTH + BLOCK) * 4
            if count < BLOCK:
                zero(lines, LINES)
            for i in range(count):
                if kind == TURNED_PATCHES:
                    patch_row(geometry, b, column + first + i, k_first, k_count, lines + i * line_row)
                else:
                    copy(lines + i * line_row, source + i * row_bytes, k_count)
                zero(lines + i * line_row + k_count * 4, BLOCK)
            source, source_row = lines, line_row
        k = 0
        while k + BLOCK <= depth:
            transpose16(source + k * 4, source_row, place + k * COLUMNS * 4, COLUMNS * 4)
            k += BLOCK
        if k < depth:
            spare = lines + LINES * 4
            transpose16(source + k * 4, source_row, spare, BLOCK * 4)
            for i in range(depth - k):
                copy16(place + (k + i) * COLUMNS * 4, spare + i * BLOCK * 4)
