"""Compiled kernels of `paths`: cutting a path field into cells, and gathering or scattering light along them.

Light is moved on a plane with a margin as wide as the paths reach, so that no kernel asks whether it is inside:
`extend` repeats the border outwards, and `fold`, its transpose, adds the margin to the border. Taps come in groups
of eight that lie close together: each row of a cell adds up eight others at once, in vector registers.
"""

from __future__ import annotations

import numpy as np
from numba import njit

CELL = 16  # pixels: the largest cell; windows that start at multiples of it see the same cells
SHORTEST = np.float32(0.01)  # pixels; a shorter path is a point: its weights would drown in rounding
FINENESS = 4  # samples of a path per pixel of its length
GROUP = 8  # taps
SPREAD = 8  # pixels, down and across, within which the taps of a group lie
PITCH = CELL + 2 * SPREAD  # pixels in a row of a cell with room for a group around it


@njit(cache=True, nogil=True)
def _extremes(path, low, high):  # type: ignore[no-untyped-def]
    """Least and greatest value of each block of 4x4 pixels."""
    planes, h, w = path.shape
    for c in range(planes):
        for y in range(h):
            for x in range(w):
                value = path[c, y, x]
                i, j = y >> 2, x >> 2
                if y & 3 == 0 and x & 3 == 0:
                    low[c, i, j] = value
                    high[c, i, j] = value
                low[c, i, j] = min(low[c, i, j], value)
                high[c, i, j] = max(high[c, i, j], value)


@njit(cache=True, nogil=True)
def _ends(path, low, high, y, x, side, ends):  # type: ignore[no-untyped-def]
    """Least and greatest value of the path in a cell, into `ends` (2, 4); returns the largest gap."""
    gap = np.float32(0)
    planes, h, w = low.shape
    for c in range(planes):
        if side == 1:
            ends[0, c] = path[c, y, x]
            ends[1, c] = path[c, y, x]
            continue
        i0, j0 = y >> 2, x >> 2
        least, most = low[c, i0, j0], high[c, i0, j0]
        for i in range(i0, min(i0 + (side >> 2), h)):
            for j in range(j0, min(j0 + (side >> 2), w)):
                least, most = min(least, low[c, i, j]), max(most, high[c, i, j])
        ends[0, c], ends[1, c] = least, most
        gap = max(gap, most - least)
    return gap


@njit(cache=True, nogil=True)
def cut_cells(path, tolerance, smallest):  # type: ignore[no-untyped-def]
    """Cut the field into even cells. Returns (k, 4): y, x, height, width of each; and (k, 4): its middle path."""
    planes, h, w = path.shape
    low = np.empty((planes, (h + 3) // 4, (w + 3) // 4), np.float32)
    high = np.empty_like(low)
    _extremes(path, low, high)
    ends = np.zeros((2, 4), np.float32)
    found, middles = [], []
    for y16 in range(0, h, CELL):
        for x16 in range(0, w, CELL):
            stack = [(y16, x16, CELL)]
            while len(stack) > 0:
                y, x, side = stack.pop()
                if _ends(path, low, high, y, x, side, ends) > 2 * tolerance and side > smallest:
                    part = 8 if side == 16 else 4 if side == 8 else 1
                    for i in range(y, min(y + side, h), part):
                        for j in range(x, min(x + side, w), part):
                            stack.append((i, j, part))
                    continue
                found.append((y, x, min(side, h - y), min(side, w - x)))
                m = np.float32(0.5) * (ends[0] + ends[1])
                middles.append((m[0], m[1], m[2], m[3]))
    return np.array(found, np.int32), np.array(middles, np.float32)


@njit(cache=True, nogil=True)
def _reach(p):  # type: ignore[no-untyped-def]
    """(along x?, columns to each side) of the path p = (dy, dx, by, bx)."""
    half = np.float32(0.5)
    ry, rx = half * abs(p[0]) + abs(p[2]), half * abs(p[1]) + abs(p[3])
    along_x = rx >= ry
    reach = rx if along_x else ry
    if reach < half * SHORTEST:
        return along_x, 0
    return along_x, int(np.ceil(reach))


@njit(cache=True, nogil=True)
def _sample(p, along_x, n, share, across):  # type: ignore[no-untyped-def]
    """Follow the path: the share of time spent in each column -n..n, and the mean position across there.

    A blurred pixel collects what lies at minus the displacement: what will pass or has passed it.
    """
    half = np.float32(0.5)
    a, c = (1, 0) if along_x else (0, 1)
    count = 2 * n + 1
    share[: count + 1] = 0
    across[: count + 1] = 0
    steps = 2 * FINENESS * n
    one = np.float32(1) / np.float32(steps)
    for i in range(steps):
        s = (np.float32(i) + half) * one - half
        bent = np.float32(4) * s * s
        main = -(p[a] * s + p[a + 2] * bent) + np.float32(n)
        side = -(p[c] * s + p[c + 2] * bent)
        k = int(main)
        f = main - np.float32(k)
        share[k] += (np.float32(1) - f) * one
        across[k] += (np.float32(1) - f) * one * side
        share[k + 1] += f * one
        across[k + 1] += f * one * side
    for k in range(count):
        if share[k] > 0:
            across[k] /= share[k]


@njit(cache=True, nogil=True)
def _taps(p, shape, offset, weight, share, across):  # type: ignore[no-untyped-def]
    """Fill the taps of one path; returns how many. Beyond a plane of `shape` all is border: none goes further."""
    along_x, n = _reach(p)
    if n == 0:
        offset[0, 0] = 0
        offset[0, 1] = 0
        weight[0] = 1
        return 1
    _sample(p, along_x, n, share, across)
    at = 0
    for k in range(2 * n + 1):
        if share[k] <= 0:
            continue
        low = int(np.floor(across[k]))
        f = across[k] - np.float32(low)
        for step in range(2):
            value = share[k] * (f if step == 1 else np.float32(1) - f)
            if value > 0:
                dy, dx = (low + step, k - n) if along_x else (k - n, low + step)
                offset[at, 0] = min(max(dy, 1 - shape[0]), shape[0] - 1)
                offset[at, 1] = min(max(dx, 1 - shape[1]), shape[1] - 1)
                weight[at] = value
                at += 1
    return at


@njit(cache=True, nogil=True)
def _pack(own, value, n, offset, weight, at):  # type: ignore[no-untyped-def]
    """Append `n` taps in full groups: the last, and one whose next tap lies too far, end with weights of zero."""
    i = 0
    while i < n:
        top, left = own[i]
        bottom, right = top, left
        for k in range(GROUP):
            if i < n:
                y, x = own[i]
                top, bottom, left, right = min(top, y), max(bottom, y), min(left, x), max(right, x)
            near = i < n and bottom - top <= SPREAD and right - left <= SPREAD
            offset[at + k] = own[i] if near else offset[at]
            weight[at + k] = value[i] if near else np.float32(0)
            i += 1 if near else 0
        at += GROUP
    return at


@njit(cache=True, nogil=True)
def render(path, cells, shape):  # type: ignore[no-untyped-def]
    """Taps of every cell above one pixel: (first, offset, weight), see `paths.Trails`."""
    room = 2 * (2 * _longest(path) + 1)
    share, across = np.empty(room, np.float32), np.empty(room, np.float32)
    own, value = np.empty((room, 2), np.int32), np.empty(room, np.float32)
    first = np.zeros(len(cells) + 1, np.int64)
    offset, weight = np.empty((GROUP * room, 2), np.int32), np.empty(GROUP * room, np.float32)
    at = 0
    for k in range(len(cells)):
        if cells[k, 2] > 1 or cells[k, 3] > 1:
            n = _taps(path[k], shape, own, value, share, across)
            if at + GROUP * n > len(weight):
                more = len(weight) + GROUP * n
                offset = np.concatenate((offset, np.empty((more, 2), np.int32)))
                weight = np.concatenate((weight, np.empty(more, np.float32)))
            at = _pack(own, value, n, offset, weight, at)
        first[k + 1] = at
    return first, offset[:at].copy(), weight[:at].copy()


@njit(cache=True, nogil=True)
def _longest(path):  # type: ignore[no-untyped-def]
    """Columns to each side of the longest path (k, 4)."""
    n = 0
    for k in range(len(path)):
        n = max(n, _reach(path[k])[1])
    return n


@njit(cache=True, nogil=True)
def extend(plane, top, left, out):  # type: ignore[no-untyped-def]
    """Put the plane into the larger `out` at (top, left), its border repeated outwards."""
    h, w = plane.shape
    for y in range(len(out)):
        row, to = plane[min(max(y - top, 0), h - 1)], out[y]
        to[:left] = row[0]
        to[left : left + w] = row
        to[left + w :] = row[w - 1]


@njit(cache=True, nogil=True)
def fold(plane, top, left, out):  # type: ignore[no-untyped-def]
    """The transpose of `extend`: take `out` from the larger plane at (top, left), its margin added to the border."""
    h, w = out.shape
    out[:] = plane[top : top + h, left : left + w]
    for y in range(len(plane)):
        row, to = plane[y], out[min(max(y - top, 0), h - 1)]
        if y < top or y >= top + h:
            for x in range(w):
                to[x] += row[left + x]
        for x in range(left):
            to[0] += row[x]
        for x in range(left + w, len(row)):
            to[w - 1] += row[x]


@njit(cache=True, nogil=True, forceinline=True)
def _sum8(source, a, w, u):  # type: ignore[no-untyped-def]
    """The sum of eight weighted values, in pairs."""
    one = (w[0] * source[a[0] + u] + w[1] * source[a[1] + u]) + (
        w[2] * source[a[2] + u] + w[3] * source[a[3] + u]
    )
    two = (w[4] * source[a[4] + u] + w[5] * source[a[5] + u]) + (
        w[6] * source[a[6] + u] + w[7] * source[a[7] + u]
    )
    return one + two


@njit(cache=True, nogil=True, forceinline=True)
def _weights(weight, i):  # type: ignore[no-untyped-def]
    a, b, c, d = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
    return a, b, c, d, weight[i + 4], weight[i + 5], weight[i + 6], weight[i + 7]


@njit(cache=True, nogil=True, forceinline=True)
def _place(offset, i, start, stride, sign):  # type: ignore[no-untyped-def]
    return np.uint64(start + sign * (offset[i, 0] * stride + offset[i, 1]))


@njit(cache=True, nogil=True, forceinline=True)
def _places(offset, i, start, stride, sign):  # type: ignore[no-untyped-def]
    """Where a group's taps lie in a flat plane."""
    a, b = _place(offset, i, start, stride, sign), _place(offset, i + 1, start, stride, sign)
    c, d = _place(offset, i + 2, start, stride, sign), _place(offset, i + 3, start, stride, sign)
    e, f = _place(offset, i + 4, start, stride, sign), _place(offset, i + 5, start, stride, sign)
    g, h = _place(offset, i + 6, start, stride, sign), _place(offset, i + 7, start, stride, sign)
    return a, b, c, d, e, f, g, h


@njit(cache=True, nogil=True, forceinline=True)
def _gather_cell(side, source, start, stride, offset, weight, i0, i1, sums):  # type: ignore[no-untyped-def]
    """Add up the taps of a cell in `sums`, rows of CELL."""
    sums[:] = 0
    for i in range(i0, i1, GROUP):
        a, w = _places(offset, i, start, stride, 1), _weights(weight, i)
        for r in range(side):
            at, to = np.uint64(r * stride), np.uint64(r * CELL)
            for j in range(side):
                u = np.uint64(j)
                sums[to + u] += _sum8(source, a, w, at + u)


@njit(cache=True, nogil=True, forceinline=True)
def _scatter_cell(side, cell, start, stride, offset, weight, i0, i1, target):  # type: ignore[no-untyped-def]
    """Add a cell, which stands in zeros, to where its taps point: each group fills a patch a little larger."""
    for i in range(i0, i1, GROUP):
        top, left, bottom = offset[i, 0], offset[i, 1], offset[i, 0]
        for k in range(i + 1, i + GROUP):
            top, left, bottom = min(top, offset[k, 0]), min(left, offset[k, 1]), max(bottom, offset[k, 0])
        corner = (SPREAD + top) * PITCH + SPREAD + left
        a, w = _places(offset, i, corner, PITCH, -1), _weights(weight, i)
        begin = start + top * stride + left
        for r in range(side + bottom - top):
            at, to = np.uint64(r * PITCH), np.uint64(begin + r * stride)
            for j in range(side + SPREAD):
                u = np.uint64(j)
                target[to + u] += _sum8(cell, a, w, at + u)


@njit(cache=True, nogil=True)
def gather(source, top, left, path, cells, first, offset, weight, out):  # type: ignore[no-untyped-def]
    """Blur the plane that lies at (top, left) in `source` into `out`."""
    stride, flat = source.shape[1], source.ravel()
    room = 2 * (2 * _longest(path) + 1)
    share, across = np.empty(room, np.float32), np.empty(room, np.float32)
    own, value = np.empty((room, 2), np.int32), np.empty(room, np.float32)
    sums = np.empty(CELL * CELL, np.float32)
    for k in range(len(cells)):
        y, x, height, width = cells[k]
        start, i0, i1 = (y + top) * stride + x + left, first[k], first[k + 1]
        if i0 == i1:
            total = np.float32(0)
            for i in range(_taps(path[k], out.shape, own, value, share, across)):
                total += value[i] * flat[_place(own, i, start, stride, 1)]
            out[y, x] = total
            continue
        if max(height, width) > 8:
            _gather_cell(16, flat, start, stride, offset, weight, i0, i1, sums)
        elif max(height, width) > 4:
            _gather_cell(8, flat, start, stride, offset, weight, i0, i1, sums)
        else:
            _gather_cell(4, flat, start, stride, offset, weight, i0, i1, sums)
        for r in range(height):
            for j in range(width):
                out[y + r, x + j] = sums[r * CELL + j]


@njit(cache=True, nogil=True)
def scatter(plane, path, cells, first, offset, weight, top, left, target):  # type: ignore[no-untyped-def]
    """The transpose of `gather`: add `plane`, along the paths, to the plane that lies at (top, left) in `target`."""
    stride, flat = target.shape[1], target.ravel()
    room = 2 * (2 * _longest(path) + 1)
    share, across = np.empty(room, np.float32), np.empty(room, np.float32)
    own, value = np.empty((room, 2), np.int32), np.empty(room, np.float32)
    square = np.zeros((PITCH, PITCH), np.float32)
    cell = square.ravel()
    for k in range(len(cells)):
        y, x, height, width = cells[k]
        start, i0, i1 = (y + top) * stride + x + left, first[k], first[k + 1]
        if i0 == i1:
            for i in range(_taps(path[k], plane.shape, own, value, share, across)):
                flat[_place(own, i, start, stride, 1)] += value[i] * plane[y, x]
            continue
        square[SPREAD:-SPREAD, SPREAD:-SPREAD] = 0
        square[SPREAD : SPREAD + height, SPREAD : SPREAD + width] = plane[y : y + height, x : x + width]
        if max(height, width) > 8:
            _scatter_cell(16, cell, start, stride, offset, weight, i0, i1, flat)
        elif max(height, width) > 4:
            _scatter_cell(8, cell, start, stride, offset, weight, i0, i1, flat)
        else:
            _scatter_cell(4, cell, start, stride, offset, weight, i0, i1, flat)
