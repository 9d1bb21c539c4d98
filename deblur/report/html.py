"""One page that shows what was done to a sequence and why one may believe it: a single HTML file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ArrayError
from deblur.light import Light
from deblur.report import pictures
from deblur.report.colour import motion_wheel, ramp, signed_ramp
from deblur.report.page import NO_SCRIPT, SCRIPT, STYLE
from deblur.types import Bytes, Float, Reason

_LONGEST = 1280  # pixels of a picture's longer side: enough for a desk, light enough for a phone
_UNKNOWN = "&ndash;"
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


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


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the page shows, as arrays and plain values.

    `originals`: two neighbouring frames as the source has them, (c, y, x) codes; the first is the one shown
    `restored` (same shape and dtype). `gradient`: (2, y, x) of the first; `difference`: (y, x), between the
    two. `motion`: (2, y, x) from the first to the second, pixels a frame. `path`: (2, y, x), pixels over the
    exposure. `weight`: (y, x) in [0, 1]; `reason`: (y, x) uint8. `truth`: codes, where known. `provenance`:
    groups of rows, shown as they come: run, parameters, versions, timings.
    """

    title: str
    summary: str
    light: Light
    names: tuple[str, str]
    originals: tuple[NDArray[Any], NDArray[Any]]
    restored: NDArray[Any]
    gradient: Float
    difference: Float
    motion: Float
    path: Float
    exposure_fraction: float
    weight: Float
    reason: Bytes
    frames: tuple[FrameRow, ...]
    provenance: Mapping[str, Mapping[str, object]]
    truth: NDArray[Any] | None = None


def render_report(report: Report) -> str:
    """The page as one string of HTML: write it to a file with UTF-8.

    It loads nothing (a content policy forbids it), works by keyboard and on a phone, follows the reader's
    light or dark mode, and describes each picture in words. Raises ArrayError where the arrays don't fit one
    another.
    """
    _check(report)
    white = pictures.white_point(report.originals[0], report.light)
    shown = [
        pictures.display(frame, report.light, white=white) for frame in (*report.originals, report.restored)
    ]
    sections = (
        ("result", "Before and after", _result(report, shown[0], shown[2])),
        ("detail", "A detail, enlarged", _detail(report, shown[0], shown[2], white)),
        ("originals", "The two originals", _originals(report, shown)),
        ("gradients", "Gradients", _gradients(report)),
        ("motion", "Motion", _motion(report)),
        ("gate", "Restored or kept", _gate(report, shown[0])),
        ("frames", "Frame by frame", _table(report.frames)),
        ("provenance", "Provenance", _provenance(report.provenance)),
    )
    links = "".join(f'<a href="#{key}">{name}</a>' for key, name, _ in sections)
    body = "".join(
        f'<section id="{key}" aria-labelledby="{key}-h"><h2 id="{key}-h">{name}</h2>{content}</section>'
        for key, name, content in sections
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{STYLE}</style>"
        f"<noscript><style>{NO_SCRIPT}</style></noscript></head><body>"
        f'<header><h1>{escape(report.title)}</h1><p class="soft">{escape(report.summary)}</p>'
        f'{_figures(report)}<nav aria-label="Sections">{links}</nav></header><main>{body}</main>'
        "<footer>Made by deblur. This page is one file: it loads nothing and sends nothing.</footer>"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def _check(report: Report) -> None:
    shape = report.originals[0].shape
    if len(shape) != 3:
        raise ArrayError(f"the report's frames have shape {shape}: give (c, y, x)")
    wanted: tuple[tuple[str, NDArray[Any] | None, tuple[int, ...]], ...] = (
        ("the second original", report.originals[1], shape),
        ("restored", report.restored, shape),
        ("truth", report.truth, shape),
        ("gradient", report.gradient, (2, *shape[1:])),
        ("difference", report.difference, shape[1:]),
        ("motion", report.motion, (2, *shape[1:])),
        ("path", report.path, (2, *shape[1:])),
        ("weight", report.weight, shape[1:]),
        ("reason", report.reason, shape[1:]),
    )
    for name, array, expected in wanted:
        if array is not None and array.shape != expected:
            raise ArrayError(f"the report's {name} has shape {array.shape}: give {expected}")


def _figures(report: Report) -> str:
    """The headline: what a reader wants to know before anything else."""
    gains = [row.gain for row in report.frames if row.gain is not None]
    cards = []
    if gains:
        before = _mean(row.psnr_before for row in report.frames if row.gain is not None)
        after = _mean(row.psnr_after for row in report.frames if row.gain is not None)
        mean = _mean(gains)
        cards.append(("Mean gain", f"{mean:+.2f} dB", f"PSNR {before:.2f} → {after:.2f}", _verdict(mean)))
        cards.append(("Worst frame", f"{min(gains):+.2f} dB", "gain over its input", _verdict(min(gains))))
    length = np.hypot(*report.path)
    cards += [
        ("Frames", f"{len(report.frames)}", _size(report.originals[0]), ""),
        (
            "Blur path",
            f"{float(np.mean(length)):.1f} px",
            f"mean here; longest {float(length.max()):.1f} px",
            "",
        ),
        ("Exposure", f"{report.exposure_fraction:.3g}", "of the frame interval", ""),
        (
            "Restored",
            _percent(_mean(row.weight for row in report.frames)),
            "mean weight; the rest kept as it was",
            "",
        ),
        ("Noise", _percent(_mean(row.noise for row in report.frames), digits=2), "of full range", ""),
    ]
    items = "".join(
        f'<div><dt>{name}</dt><dd class="{mood}">{value}</dd><dd>{note}</dd></div>'
        for name, value, note, mood in cards
    )
    return f'<dl class="figures">{items}</dl>'


def _result(report: Report, before: Bytes, after: Bytes) -> str:
    name = escape(report.names[0])
    left = _image(before, pictures.to_png, f"{name} as the camera took it, blurred by motion")
    right = _image(after, pictures.to_png, f"{name} after restoration")
    width = min(before.shape[1] * max(1, round(960 / before.shape[1])), _LONGEST)
    return (
        '<p class="soft">Drag the line, or focus the picture and use the arrow keys; Home and End show '
        "one side whole.</p>"
        f'<div><div class="compare" style="max-width:{width}px">{right}'
        '<span class="tag right">restored</span>'
        f'<div class="top">{left}<span class="tag left">blurred</span></div><div class="edge"></div>'
        '<input type="range" min="0" max="100" value="50" data-left="blurred" data-right="restored" '
        f'aria-label="How much of {name} to show blurred, from the left"></div>'
        '<div class="keys"><button type="button" value="100">Blurred</button>'
        '<button type="button" value="50">Half and half</button>'
        '<button type="button" value="0">Restored</button>'
        f'<span class="soft">{name}</span></div></div>'
    )


def _detail(report: Report, before: Bytes, after: Bytes, white: float) -> str:
    box = pictures.busiest_box(before, height=110, width=150)
    views = [("Blurred", before), ("Restored", after)]
    if report.truth is not None:
        views.append(("Truth", pictures.display(report.truth, report.light, white=white)))
    where = f"rows {box.y0}&ndash;{box.y1}, columns {box.x0}&ndash;{box.x1}"
    figures = "".join(
        _figure(pictures.crop(view, box), pictures.to_png, f"{name} detail, {where}", f"<b>{name}</b>")
        for name, view in views
    )
    return f'<p class="soft">The liveliest part, {where}.</p><div class="trio large">{figures}</div>'


def _originals(report: Report, shown: list[Bytes]) -> str:
    figures = "".join(
        _figure(
            view, pictures.to_jpeg, f"{escape(name)}, blurred, as the source has it", f"<b>{escape(name)}</b>"
        )
        for name, view in zip(report.names, shown, strict=False)
    )
    return (
        '<p class="soft">Two neighbouring frames. What moved between them is what blurred them.</p>'
        f'<div class="pair">{figures}</div>'
    )


def _gradients(report: Report) -> str:
    steep = pictures.typical_largest(np.hypot(*report.gradient))
    change = pictures.typical_largest(report.difference)
    spatial = _figure(
        pictures.gradient_picture(report.gradient, largest=steep), pictures.to_jpeg,
        "Magnitude of the spatial gradient: edges bright, plain areas dark",
        "<b>In space</b>: the Sobel gradient's magnitude", _scale(ramp(), "0", f"{steep:.3g}"))  # fmt: skip
    temporal = _figure(
        pictures.difference_picture(report.difference, largest=change), pictures.to_jpeg,
        "Temporal difference: red where it became brighter, blue where it became darker",
        "<b>In time</b>: from one frame to the next",
        _scale(signed_ramp(), f"&minus;{change:.3g}", f"+{change:.3g}"))  # fmt: skip
    return (
        '<p class="soft">Where the picture changes from place to place, and from one frame to the next: '
        f'together they tell the motion.</p><div class="pair">{spatial}{temporal}</div>'
    )


def _motion(report: Report) -> str:
    length = np.hypot(*report.motion)
    longest, top = pictures.typical_largest(length), pictures.typical_largest(np.hypot(*report.path))
    dy, dx = (float(np.mean(part)) for part in report.motion)
    wheel = _image(
        motion_wheel(176),
        pictures.to_png,
        "Colour wheel: right red, down yellow, left cyan, up violet",
        style="wheel",
    )
    legend = (
        f'<div class="legend">{wheel}<span>The hue is the direction: right is red, down yellow, left cyan, '
        f"up violet. Full colour at the rim is {longest:.1f} px.</span></div>"
    )
    field = _figure(
        pictures.motion_picture(report.motion, longest=longest), pictures.to_png,
        f"Motion field in the colour wheel; mean motion {dx:.1f} px to the right and {dy:.1f} px down",
        f"<b>Motion</b> to the next frame: on average {dx:+.1f} px across and {dy:+.1f} px down",
        legend)  # fmt: skip
    path = _figure(
        pictures.length_picture(report.path, largest=top), pictures.to_png,
        "Length of the blur path at each pixel",
        f"<b>Blur path</b>: motion &times; exposure fraction {report.exposure_fraction:.3g}",
        _scale(ramp(), "0", f"{top:.1f} px"))  # fmt: skip
    return (
        '<p class="soft">How far each pixel moves in a frame, and how long the path is that smeared it.</p>'
        f'<div class="pair">{field}{path}</div>'
    )


def _gate(report: Report, before: Bytes) -> str:
    counts = np.bincount(report.reason.ravel(), minlength=256)
    rows = "".join(
        f'<li><i style="background:rgb{pictures.REASON_COLOURS[kind]}"></i>'
        f"<b>{_percent(counts[kind] / counts.sum())}</b>"
        f"<span>{pictures.REASON_WORDS[kind]}</span></li>"
        for kind in Reason
        if counts[kind]
    )
    weight = _figure(
        pictures.weight_picture(report.weight), pictures.to_png, "Weight of the restoration at each pixel",
        f"<b>Weight</b>: mean {float(report.weight.mean()):.2f}",
        _scale(ramp(), "0 source", "1 restored"))  # fmt: skip
    reason = _figure(
        pictures.reason_picture(report.reason, before), pictures.to_png,
        "Why pixels kept their source value, in colours",
        "<b>Reason</b>, over the frame in grey", f'<ul class="reasons">{rows}</ul>')  # fmt: skip
    return (
        '<p class="soft">Where the evidence is weak, a pixel keeps its source value, and says why.</p>'
        f'<div class="pair">{weight}{reason}</div>'
    )


def _table(frames: tuple[FrameRow, ...]) -> str:
    known = [row.gain for row in frames if row.gain is not None]
    top = max([abs(g) for g in known if math.isfinite(g)], default=1.0) or 1.0
    head = [
        "Frame",
        *(("PSNR before, dB", "PSNR after, dB", "Gain, dB") if known else ()),
        "Restored",
        "Noise",
    ]
    lines = []
    for row in frames:
        cells = [_percent(row.weight), _percent(row.noise, digits=2)]
        if known:
            cells = [_decibel(row.psnr_before), _decibel(row.psnr_after), _gain_cell(row.gain, top), *cells]
        lines.append(
            f'<tr><th scope="row">{escape(row.name)}</th>{"".join(f"<td>{c}</td>" for c in cells)}</tr>'
        )
    titles = "".join(f'<th scope="col">{name}</th>' for name in head)
    note = "PSNR against the known truth." if known else "No truth is known here, so no PSNR is given."
    return (
        f'<p class="soft">{note} <em>Restored</em> is the mean weight.</p>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Table of frames">'
        f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _gain_cell(gain: float | None, top: float) -> str:
    if gain is None:
        return _UNKNOWN
    width = 3.5 * min(abs(gain) / top, 1) if math.isfinite(gain) else 3.5
    bar = f'<span class="gain" style="width:{width:.2f}rem"></span>'
    return f'<span class="{_verdict(gain)}">{bar}{gain:+.2f}</span>'


def _provenance(groups: Mapping[str, Mapping[str, object]]) -> str:
    parts = []
    for k, (name, rows) in enumerate(groups.items()):
        lines = "".join(
            f'<tr><th scope="row">{escape(str(key))}</th><td>{escape(_plain(value))}</td></tr>'
            for key, value in rows.items()
        )
        state = " open" if k == 0 else ""
        parts.append(
            f"<details{state}><summary>{escape(name)}</summary><table><tbody>{lines}</tbody></table></details>"
        )
    return '<p class="soft">What went in, what was asked for, and what did it.</p>' + "".join(parts)


def _figure(picture: Bytes, file: Callable[[Bytes], bytes], alt: str, caption: str, legend: str = "") -> str:
    return f"<figure>{_image(picture, file, alt)}<figcaption>{caption}</figcaption>{legend}</figure>"


def _image(picture: Bytes, file: Callable[[Bytes], bytes], alt: str, style: str = "") -> str:
    """`alt` must be escaped already where it holds names."""
    small = pictures.shrink(picture, longest=_LONGEST)
    named = f' class="{style}"' if style else ""
    height, width = small.shape[:2]
    source = pictures.data_uri(file(small))
    return f'<img{named} src="{source}" alt="{alt}" width="{width}" height="{height}">'


def _scale(colours: Bytes, low: str, high: str) -> str:
    bar = _image(np.repeat(colours, 8, axis=0), pictures.to_png, "", "ramp")
    return f'<div class="legend"><span>{low}</span>{bar}<span>{high}</span></div>'


def _size(frame: NDArray[Any]) -> str:
    channels, height, width = frame.shape
    return f"{width} &times; {height}, {channels} channel{'s' * (channels > 1)}, {frame.dtype}"


def _verdict(gain: float) -> str:
    return "good" if gain > 0 else "bad" if gain < 0 else ""


def _mean(values: Iterable[float | None]) -> float:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else math.nan


def _percent(part: float, *, digits: int = 1) -> str:
    return _UNKNOWN if math.isnan(part) else f"{100 * part:.{digits}f} %"


def _decibel(value: float | None) -> str:
    return _UNKNOWN if value is None else "∞" if math.isinf(value) else f"{value:.2f}"


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
