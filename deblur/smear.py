"""Compiled kernels of `paths`: cutting a path field into cells, and gathering or scattering light along them."""

from __future__ import annotations

import numpy as np
from numba import njit

CELL = 16  # pixels: the largest cell; windows that start at multiples of it see the same cells
SHORTEST = np.float32(0.01)  # pixels; a shorter path is a point: its weights would drown in rounding
FINENESS = 4  # samples of a path per pixel of its length


@njit(cache=True, nogil=True)
def _even(path, y, x, height, width, tolerance):  # type: ignore[no-untyped-def]
    """Whether all paths of a cell lie within `tolerance` of the middle between their extremes."""
    for c in range(4):
        low = path[c, y, x]
        high = low
        for i in range(y, y + height):
            for j in range(x, x + width):
                low = min(low, path[c, i, j])
                high = max(high, path[c, i, j])
        if high - low > 2 * tolerance:
            return False
    return True


@njit(cache=True, nogil=True)
def cut_cells(path, tolerance, smallest):  # type: ignore[no-untyped-def]
    """Cut the field into even cells, largest first."""
    _, h, w = path.shape
    found = []
    for y16 in range(0, h, 16):
        for x16 in range(0, w, 16):
            stack = [(y16, x16, 16)]
            while len(stack) > 0:
                y, x, side = stack.pop()
                height, width = min(side, h - y), min(side, w - x)
                if side <= smallest or _even(path, y, x, height, width, tolerance):
                    found.append((y, x, height, width))
                    continue
                part = 8 if side == 16 else 4 if side == 8 else 1
                for i in range(y, y + height, part):
                    for j in range(x, x + width, part):
                        stack.append((i, j, part))
    cells = np.empty((len(found), 4), np.int32)
    for k in range(len(found)):
        cells[k, 0], cells[k, 1], cells[k, 2], cells[k, 3] = found[k]
    return cells


@njit(cache=True, nogil=True)
def _middle(path, y, x, height, width, out):  # type: ignore[no-untyped-def]
    """The path halfway between the extremes of a cell."""
    for c in range(4):
        low = path[c, y, x]
        high = low
        if height > 1 or width > 1:
            for i in range(y, y + height):
                for j in range(x, x + width):
                    low = min(low, path[c, i, j])
                    high = max(high, path[c, i, j])
        out[c] = np.float32(0.5) * (low + high)


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
def _taps(p, offset, weight, share, across):  # type: ignore[no-untyped-def]
    """Fill the taps of one path; returns how many."""
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
                offset[at, 0] = low + step if along_x else k - n
                offset[at, 1] = k - n if along_x else low + step
                weight[at] = value
                at += 1
    return at


@njit(cache=True, nogil=True)
def _room(path):  # type: ignore[no-untyped-def]
    """Columns that the longest path can touch."""
    most = np.float32(0)
    half = np.float32(0.5)
    _, h, w = path.shape
    for y in range(h):
        for x in range(w):
            ry = half * abs(path[0, y, x]) + abs(path[2, y, x])
            rx = half * abs(path[1, y, x]) + abs(path[3, y, x])
            most = max(most, max(ry, rx))
    return 2 * int(np.ceil(most)) + 3


@njit(cache=True, nogil=True)
def render(path, cells, first, offset, weight):  # type: ignore[no-untyped-def]
    """Taps of every cell above one pixel; with empty `offset`, only count them into `first`."""
    room = _room(path)
    share, across = np.empty(room + 1, np.float32), np.empty(room + 1, np.float32)
    own, value = np.empty((2 * room, 2), np.int32), np.empty(2 * room, np.float32)
    p = np.empty(4, np.float32)
    counting = offset.shape[0] == 0
    for k in range(cells.shape[0]):
        y, x, height, width = cells[k]
        n = 0
        if height > 1 or width > 1:
            _middle(path, y, x, height, width, p)
            n = _taps(p, own, value, share, across)
        if counting:
            first[k + 1] = first[k] + n
            continue
        for i in range(n):
            offset[first[k] + i] = own[i]
            weight[first[k] + i] = value[i]


@njit(cache=True, nogil=True)
def _inside(own, n, y, x, height, width, h, w):  # type: ignore[no-untyped-def]
    """Whether all taps of a cell stay in the image. Their extremes are first and last along, so test all."""
    for k in range(n):
        dy, dx = own[k]
        if y + dy < 0 or y + height - 1 + dy >= h or x + dx < 0 or x + width - 1 + dx >= w:
            return False
    return True


@njit(cache=True, nogil=True)
def gather(image, path, cells, first, offset, weight, out):  # type: ignore[no-untyped-def]
    h, w = image.shape
    room = _room(path)
    share, across = np.empty(room + 1, np.float32), np.empty(room + 1, np.float32)
    own, value = np.empty((2 * room, 2), np.int32), np.empty(2 * room, np.float32)
    p = np.empty(4, np.float32)
    source, target, sums = image.ravel(), out.ravel(), np.empty(256, np.float32)
    for k in range(cells.shape[0]):
        y, x, height, width = cells[k]
        if height == 1 and width == 1:
            p[:] = path[:, y, x]
            n = _taps(p, own, value, share, across)
            taps, sizes = own[:n], value[:n]
        else:
            n = first[k + 1] - first[k]
            taps, sizes = offset[first[k] : first[k + 1]], weight[first[k] : first[k + 1]]
        if _inside(taps, n, y, x, height, width, h, w):
            if width == 16:
                _gather16(source, y * w + x, w, height, taps, sizes, n, sums, target)
                continue
            for i in range(n):
                to, at = y * w + x, (y + taps[i, 0]) * w + x + taps[i, 1]
                for _ in range(height):
                    for j in range(width):
                        target[np.uint64(to + j)] += sizes[i] * source[np.uint64(at + j)]
                    at += w
                    to += w
            continue
        for i in range(n):
            for r in range(y, y + height):
                row = min(max(r + taps[i, 0], 0), h - 1)
                for c in range(x, x + width):
                    out[r, c] += sizes[i] * image[row, min(max(c + taps[i, 1], 0), w - 1)]


@njit(cache=True, nogil=True)
def _gather16(source, start, w, height, taps, sizes, n, sums, target):  # type: ignore[no-untyped-def]
    """One cell of 16 columns, four taps at a time: sums stay in the nearest cache, rows in vector registers."""
    stride, line = np.uint64(w), np.uint64(16)
    sums[:] = 0
    i = 0
    while i < n:
        i1, i2, i3 = min(i + 1, n - 1), min(i + 2, n - 1), min(i + 3, n - 1)
        zero = np.float32(0)
        w0, w1 = sizes[i], sizes[i1] if i + 1 < n else zero
        w2, w3 = sizes[i2] if i + 2 < n else zero, sizes[i3] if i + 3 < n else zero
        a0 = np.uint64(start + taps[i, 0] * w + taps[i, 1])
        a1 = np.uint64(start + taps[i1, 0] * w + taps[i1, 1])
        a2 = np.uint64(start + taps[i2, 0] * w + taps[i2, 1])
        a3 = np.uint64(start + taps[i3, 0] * w + taps[i3, 1])
        to = np.uint64(0)
        for _ in range(height):
            for j in range(16):
                u = np.uint64(j)
                near = w0 * source[a0 + u] + w1 * source[a1 + u]
                sums[to + u] += near + (w2 * source[a2 + u] + w3 * source[a3 + u])
            a0, a1, a2, a3 = a0 + stride, a1 + stride, a2 + stride, a3 + stride
            to += line
        i += 4
    for r in range(height):
        to, at = np.uint64(start + r * w), np.uint64(16 * r)
        for j in range(16):
            target[to + np.uint64(j)] = sums[at + np.uint64(j)]


@njit(cache=True, nogil=True, inline="always")
def _row16(source, at, target, to, weight):  # type: ignore[no-untyped-def]
    for j in range(16):
        target[np.uint64(to + j)] += weight * source[np.uint64(at + j)]


@njit(cache=True, nogil=True)
def scatter(image, path, cells, first, offset, weight, out):  # type: ignore[no-untyped-def]
    h, w = image.shape
    room = _room(path)
    share, across = np.empty(room + 1, np.float32), np.empty(room + 1, np.float32)
    own, value = np.empty((2 * room, 2), np.int32), np.empty(2 * room, np.float32)
    p = np.empty(4, np.float32)
    source, target = image.ravel(), out.ravel()
    for k in range(cells.shape[0]):
        y, x, height, width = cells[k]
        if height == 1 and width == 1:
            p[:] = path[:, y, x]
            n = _taps(p, own, value, share, across)
            taps, sizes = own[:n], value[:n]
        else:
            n = first[k + 1] - first[k]
            taps, sizes = offset[first[k] : first[k + 1]], weight[first[k] : first[k + 1]]
        if _inside(taps, n, y, x, height, width, h, w):
            for i in range(n):
                at, to = y * w + x, (y + taps[i, 0]) * w + x + taps[i, 1]
                if width == 16:
                    for _ in range(height):
                        _row16(source, at, target, to, sizes[i])
                        at += w
                        to += w
                else:
                    for _ in range(height):
                        for j in range(width):
                            target[np.uint64(to + j)] += sizes[i] * source[np.uint64(at + j)]
                        at += w
                        to += w
            continue
        for i in range(n):
            for r in range(y, y + height):
                row = min(max(r + taps[i, 0], 0), h - 1)
                for c in range(x, x + width):
                    out[row, min(max(c + taps[i, 1], 0), w - 1)] += sizes[i] * image[r, c]
