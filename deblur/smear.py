"""Compiled kernels of `paths`: cutting a path field into cells, and gathering or scattering light along them.

Light is moved on a plane with a margin as wide as the paths reach, so that no kernel asks whether it is inside:
`extend` repeats the border outwards, and `fold`, its transpose, adds the margin to the border. Taps come in pairs,
one below the other: eight rows of a cell stay in registers, and each row from memory serves two of them.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deblur.lanes import load, plus, store, times, zeros

CELL = 16  # pixels: the largest cell; windows that start at multiples of it see the same cells
SHORTEST = np.float32(0.01)  # pixels; a shorter path is a point: its weights would drown in rounding
CHORDS = 64  # straight pieces of a bent path
ROWS = 8  # of a cell that are in registers together
NEAR = 6  # pairs of taps back in which the one above a tap is looked for


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
def _walk(m0, c0, m1, c1, time, n, share, across):  # type: ignore[no-untyped-def]
    """Spend `time` on the way from column m0 to m1, across from c0 to c1; each place shares it between two columns.

    Exact: the integral of the hat of each column, and of the place across times that hat.
    """
    if m1 < m0:
        m0, c0, m1, c1 = m1, c1, m0, c0
    length = max(m1 - m0, 1e-6)
    m1 = m0 + length
    for k in range(max(int(np.floor(m0)), -n), min(int(np.floor(m1)) + 1, n) + 1):
        area, middle = 1.0, 0.0
        if k - 1 < m0 or k + 1 > m1:
            t0, t1 = max(m0 - k, -1.0), min(m1 - k, 1.0)
            area = (t1 - 0.5 * t1 * abs(t1)) - (t0 - 0.5 * t0 * abs(t0))
            if area <= 0:
                continue
            middle = t1 * t1 * (0.5 - abs(t1) / 3) - t0 * t0 * (0.5 - abs(t0) / 3)
            middle = min(max(middle / area, t0), t1)
        part = time * area / length
        share[k + n] += part
        across[k + n] += part * (c0 + (c1 - c0) * (k + middle - m0) / length)


@njit(cache=True, nogil=True)
def _follow(p, along_x, n, share, across):  # type: ignore[no-untyped-def]
    """Follow the path: the share of time spent in each column -n..n, and the mean position across there.

    A blurred pixel collects what lies at minus the displacement: what will pass or has passed it.
    """
    a, c = (1, 0) if along_x else (0, 1)
    share[: 2 * n + 1] = 0
    across[: 2 * n + 1] = 0
    parts = 1 if p[2] == 0 and p[3] == 0 else CHORDS
    m0, c0 = 0.5 * p[a] - p[a + 2], 0.5 * p[c] - p[c + 2]
    for i in range(1, parts + 1):
        s = i / parts - 0.5
        m1, c1 = -s * (p[a] + 4 * s * p[a + 2]), -s * (p[c] + 4 * s * p[c + 2])
        _walk(m0, c0, m1, c1, 1 / parts, n, share, across)
        m0, c0 = m1, c1
    for k in range(2 * n + 1):
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
    _follow(p, along_x, n, share, across)
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
def _pair(own, value, n, stride, offset, weight, at):  # type: ignore[no-untyped-def]
    """Append `n` taps as pairs (above, below) at flat offsets; returns the end. What has no partner has a zero."""
    begin = at
    for i in range(n):
        place = own[i, 0] * stride + own[i, 1]
        k = at - 1
        while k >= max(begin, at - NEAR) and not (offset[k] == place - stride and weight[k, 1] == 0):
            k -= 1
        if k >= max(begin, at - NEAR):
            weight[k, 1] = value[i]
            continue
        offset[at], weight[at, 0], weight[at, 1] = place, value[i], 0
        at += 1
    return at


@njit(cache=True, nogil=True)
def render(path, cells, shape, stride):  # type: ignore[no-untyped-def]
    """Taps of every cell above one pixel: (first, offset, weight), see `paths.Trails`."""
    share, across, own, value = _scratch(path)
    first = np.zeros(len(cells) + 1, np.int64)
    offset, weight = np.empty(len(value), np.int32), np.empty((len(value), 2), np.float32)
    at = 0
    for k in range(len(cells)):
        if cells[k, 2] > 1 or cells[k, 3] > 1:
            n = _taps(path[k], shape, own, value, share, across)
            if at + n > len(offset):
                more = len(offset) + n
                offset = np.concatenate((offset, np.empty(more, np.int32)))
                weight = np.concatenate((weight, np.empty((more, 2), np.float32)))
            at = _pair(own, value, n, stride, offset, weight, at)
        first[k + 1] = at
    return first, offset[:at].copy(), weight[:at].copy()


@njit(cache=True, nogil=True)
def _scratch(path):  # type: ignore[no-untyped-def]
    """Room for `_taps` of the longest path of (k, 4)."""
    n = 0
    for k in range(len(path)):
        n = max(n, _reach(path[k])[1])
    room = 2 * (2 * n + 1)
    share, across = np.empty(room, np.float32), np.empty(room, np.float32)
    return share, across, np.empty((room, 2), np.int32), np.empty(room, np.float32)


@njit(cache=True, nogil=True)
def extend(plane, top, left, out):  # type: ignore[no-untyped-def]
    """Put the plane into the larger `out` at (top, left), its border repeated outwards."""
    h, w = plane.shape
    for i in range(out.shape[0]):
        y = min(max(i - top, 0), h - 1)
        for j in range(left):
            out[i, j] = plane[y, 0]
        for j in range(w):
            out[i, left + j] = plane[y, j]
        for j in range(left + w, out.shape[1]):
            out[i, j] = plane[y, w - 1]


@njit(cache=True, nogil=True)
def fold(plane, top, left, out):  # type: ignore[no-untyped-def]
    """The transpose of `extend`: take `out` from the larger plane at (top, left), its margin added to the border."""
    h, w = out.shape
    out[:] = 0
    for i in range(plane.shape[0]):
        y = min(max(i - top, 0), h - 1)
        for j in range(w):
            out[y, j] += plane[i, left + j]
        for j in range(left):
            out[y, 0] += plane[i, j]
        for j in range(left + w, plane.shape[1]):
            out[y, w - 1] += plane[i, j]


@njit(cache=True, nogil=True, forceinline=True)
def _blend(u, above, v, below):  # type: ignore[no-untyped-def]
    return plus(times(u, above), times(v, below))


@njit(cache=True, nogil=True)
def _gather_rows(none, source, at, stride, offset, weight, out, to, pitch):  # type: ignore[no-untyped-def]
    """Eight rows, as wide as `none`, of a cell at `at` in the flat `source`, blurred into `out`."""
    s0, s1, s2, s3, s4, s5, s6, s7 = none, none, none, none, none, none, none, none
    for i in range(len(offset)):
        a, above, below = at + offset[i], weight[i, 0], weight[i, 1]
        r0, r1 = load(none, source, a), load(none, source, a + stride)
        r2, r3 = load(none, source, a + 2 * stride), load(none, source, a + 3 * stride)
        r4, r5 = load(none, source, a + 4 * stride), load(none, source, a + 5 * stride)
        r6, r7 = load(none, source, a + 6 * stride), load(none, source, a + 7 * stride)
        r8 = load(none, source, a + 8 * stride)
        s0, s1 = plus(s0, _blend(r0, above, r1, below)), plus(s1, _blend(r1, above, r2, below))
        s2, s3 = plus(s2, _blend(r2, above, r3, below)), plus(s3, _blend(r3, above, r4, below))
        s4, s5 = plus(s4, _blend(r4, above, r5, below)), plus(s5, _blend(r5, above, r6, below))
        s6, s7 = plus(s6, _blend(r6, above, r7, below)), plus(s7, _blend(r7, above, r8, below))
    store(out, to, s0)
    store(out, to + pitch, s1)
    store(out, to + 2 * pitch, s2)
    store(out, to + 3 * pitch, s3)
    store(out, to + 4 * pitch, s4)
    store(out, to + 5 * pitch, s5)
    store(out, to + 6 * pitch, s6)
    store(out, to + 7 * pitch, s7)


@njit(cache=True, nogil=True, forceinline=True)
def _add(target, at, lanes):  # type: ignore[no-untyped-def]
    store(target, at, plus(load(lanes, target, at), lanes))


@njit(cache=True, nogil=True)
def _scatter_rows(none, source, at, pitch, offset, weight, target, to, stride):  # type: ignore[no-untyped-def]
    """The transpose of `_gather_rows`: eight rows at `at` in `source`, added to `target`."""
    r0, r1 = load(none, source, at), load(none, source, at + pitch)
    r2, r3 = load(none, source, at + 2 * pitch), load(none, source, at + 3 * pitch)
    r4, r5 = load(none, source, at + 4 * pitch), load(none, source, at + 5 * pitch)
    r6, r7 = load(none, source, at + 6 * pitch), load(none, source, at + 7 * pitch)
    for i in range(len(offset)):
        a, above, below = to + offset[i], weight[i, 0], weight[i, 1]
        _add(target, a, times(r0, above))
        _add(target, a + stride, _blend(r1, above, r0, below))
        _add(target, a + 2 * stride, _blend(r2, above, r1, below))
        _add(target, a + 3 * stride, _blend(r3, above, r2, below))
        _add(target, a + 4 * stride, _blend(r4, above, r3, below))
        _add(target, a + 5 * stride, _blend(r5, above, r4, below))
        _add(target, a + 6 * stride, _blend(r6, above, r5, below))
        _add(target, a + 7 * stride, _blend(r7, above, r6, below))
        _add(target, a + 8 * stride, times(r7, below))


@njit(cache=True, nogil=True)
def gather(source, top, left, path, cells, first, offset, weight, out):  # type: ignore[no-untyped-def]
    """Blur the plane that lies at (top, left) in `source` into `out`."""
    stride, flat, target, w = source.shape[1], source.ravel(), out.ravel(), out.shape[1]
    share, across, own, value = _scratch(path)
    block = np.empty((ROWS, CELL), np.float32)
    part = block.ravel()
    for k in range(len(cells)):
        y, x, height, width = cells[k]
        start = (y + top) * stride + x + left
        places, sizes = offset[first[k] : first[k + 1]], weight[first[k] : first[k + 1]]
        if len(places) == 0:
            total = np.float32(0)
            for i in range(_taps(path[k], out.shape, own, value, share, across)):
                total += value[i] * flat[start + own[i, 0] * stride + own[i, 1]]
            out[y, x] = total
        for r in range(0, height if len(places) > 0 else 0, ROWS):
            at, rows = start + r * stride, min(ROWS, height - r)
            whole = rows == ROWS and width & 7 == 0
            sink, to, pitch = (target, (y + r) * w + x, w) if whole else (part, 0, CELL)
            if width > 8:
                _gather_rows(zeros(16), flat, at, stride, places, sizes, sink, to, pitch)
            else:
                _gather_rows(zeros(8), flat, at, stride, places, sizes, sink, to, pitch)
            if not whole:
                for i in range(rows):
                    for j in range(width):
                        out[y + r + i, x + j] = block[i, j]


@njit(cache=True, nogil=True)
def scatter(plane, path, cells, first, offset, weight, top, left, target):  # type: ignore[no-untyped-def]
    """The transpose of `gather`: add `plane`, along the paths, to the plane that lies at (top, left) in `target`."""
    stride, flat, source, w = target.shape[1], target.ravel(), plane.ravel(), plane.shape[1]
    share, across, own, value = _scratch(path)
    block = np.empty((ROWS, CELL), np.float32)
    part = block.ravel()
    for k in range(len(cells)):
        y, x, height, width = cells[k]
        start = (y + top) * stride + x + left
        places, sizes = offset[first[k] : first[k + 1]], weight[first[k] : first[k + 1]]
        if len(places) == 0:
            for i in range(_taps(path[k], plane.shape, own, value, share, across)):
                flat[start + own[i, 0] * stride + own[i, 1]] += value[i] * plane[y, x]
        for r in range(0, height if len(places) > 0 else 0, ROWS):
            to, rows = start + r * stride, min(ROWS, height - r)
            whole = rows == ROWS and width & 7 == 0
            if not whole:
                block[:] = 0
                for i in range(rows):
                    for j in range(width):
                        block[i, j] = plane[y + r + i, x + j]
            spring, at, pitch = (source, (y + r) * w + x, w) if whole else (part, 0, CELL)
            if width > 8:
                _scatter_rows(zeros(16), spring, at, pitch, places, sizes, flat, to, stride)
            else:
                _scatter_rows(zeros(8), spring, at, pitch, places, sizes, flat, to, stride)
