"""The page's account of the frames one by one: a table, and their share restored over time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

import numpy as np

from deblur.report.parts import UNKNOWN, decibel, percent, verdict

ROWS = 1000  # of the table; a longer one is no longer read


@dataclass(frozen=True, slots=True)
class FrameRow:
    """One line of the table: `weight`, the map's mean, `noise`, a part of full range; PSNR in dB."""

    name: str
    weight: float
    noise: float
    psnr_before: float | None = None
    psnr_after: float | None = None

    @property
    def gain(self) -> float | None:
        if self.psnr_before is None or self.psnr_after is None:
            return None
        return 0.0 if self.psnr_after == self.psnr_before else self.psnr_after - self.psnr_before


def frame_table(frames: tuple[FrameRow, ...]) -> str:
    known = [row.gain for row in frames if row.gain is not None]
    top = max([abs(g) for g in known if math.isfinite(g)], default=1.0) or 1.0
    head = [
        "Frame",
        *(("PSNR before, dB", "PSNR after, dB", "Gain, dB") if known else ()),
        "Restored",
        "Noise",
    ]
    lines = []
    step = max(1, -(-len(frames) // ROWS))
    for row in frames[::step]:
        cells = [percent(row.weight), percent(row.noise, digits=2)]
        if known:
            cells = [decibel(row.psnr_before), decibel(row.psnr_after), _gain_cell(row.gain, top), *cells]
        lines.append(
            f'<tr><th scope="row">{escape(row.name)}</th>{"".join(f"<td>{c}</td>" for c in cells)}</tr>'
        )
    titles = "".join(f'<th scope="col">{name}</th>' for name in head)
    note = "PSNR against the known truth." if known else "No truth is known here, so no PSNR is given."
    part = f" Every {step}th frame is listed." if step > 1 else ""
    return (
        f'<p class="soft">{note} <em>Restored</em> is the mean weight.{part}</p>{_over_time(frames)}'
        '<div class="scroll" tabindex="0" role="region" aria-label="Table of frames">'
        f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _over_time(frames: tuple[FrameRow, ...]) -> str:
    """The mean weight of each frame as a curve, in order of time."""
    weights = [row.weight for row in frames if math.isfinite(row.weight)]
    if len(weights) < 3:
        return ""
    groups = np.array_split(np.array(weights), min(len(weights), 300))
    places = np.linspace(0, 600, len(groups))
    line = " ".join(f"{x:.1f},{100 - 96 * group.mean():.1f}" for x, group in zip(places, groups, strict=True))
    words = (
        f"Share restored over time: from {percent(min(weights))} to {percent(max(weights))}, "
        f"first {percent(weights[0])}, last {percent(weights[-1])}"
    )
    return (
        f'<figure class="curve"><svg viewBox="0 0 600 100" preserveAspectRatio="none" role="img" aria-label="{words}">'
        f'<polyline points="{line}" fill="none" stroke="currentColor" stroke-width="2" vector-effect="non-scaling-stroke"/>'
        f"</svg><figcaption>{words}</figcaption></figure>"
    )


def _gain_cell(gain: float | None, top: float) -> str:
    if gain is None:
        return UNKNOWN
    width = 3.5 * min(abs(gain) / top, 1) if math.isfinite(gain) else 3.5
    bar = f'<span class="gain" style="width:{width:.2f}rem"></span>'
    return f'<span class="{verdict(gain)}">{bar}{gain:+.2f}</span>'
