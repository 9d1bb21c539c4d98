"""One page that shows what was done to a sequence and why one may believe it: a single HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ArrayError
from deblur.light import Light
from deblur.report import pictures
from deblur.report.colour import motion_wheel, ramp, signed_ramp
from deblur.report.frames import FrameRow, frame_table
from deblur.report.page import NO_SCRIPT, SCRIPT, STYLE
from deblur.report.parts import LONGEST, figure, image, mean, percent, plain, scale, size_words, verdict
from deblur.turn import upright, upright_field
from deblur.types import Bytes, Float, Reason

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True, slots=True)
class Pair:
    """One frame of the strip, codes (c, y, x), small."""

    name: str
    original: NDArray[Any]
    restored: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the page shows, as arrays and plain values.

    `originals`: two neighbouring frames as the source has them, (c, y, x) codes; the first is the one shown
    `restored` (same shape and dtype). `gradient`: (2, y, x) of the first; `difference`: (y, x), between the
    two. `motion`: (2, y, x) from the first to the second, pixels a frame. `path`: (2, y, x), pixels over the
    exposure. `weight`: (y, x) in [0, 1]; `reason`: (y, x) uint8. `truth`: codes, where known. `provenance`:
    groups of rows, shown as they come: run, parameters, versions, timings. `strip`: frames across the sequence, to be
    shown small. `orientation`: EXIF's; everything is stored as the sensor had it, and turned for the page.
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
    strip: tuple[Pair, ...] = ()
    orientation: int = 1
    learned: Float | None = None


def render_report(report: Report) -> str:
    """The page as one string of HTML: write it to a file with UTF-8.

    It loads nothing (a content policy forbids it), works by keyboard and on a phone, follows the reader's
    light or dark mode, and describes each picture in words. Raises ArrayError where the arrays don't fit one
    another.
    """
    _check(report)
    report = _turned(report)
    white = pictures.white_point(report.originals[0], report.light)
    shown = [
        pictures.display(frame, report.light, white=white) for frame in (*report.originals, report.restored)
    ]
    sections = (
        ("result", "Before and after", _result(report, shown[0], shown[2])),
        ("detail", "A detail, enlarged", _detail(report, shown[0], shown[2], white)),
        ("strip", "Across the sequence", _strip(report, white)),
        ("originals", "The two originals", _originals(report, shown)),
        ("gradients", "Gradients", _gradients(report)),
        ("motion", "Motion", _motion(report)),
        ("gate", "Restored or kept", _gate(report, shown[0])),
        ("network", "Physics and network", _network(report, shown)),
        ("frames", "Frame by frame", frame_table(report.frames)),
        ("provenance", "Provenance", _provenance(report.provenance)),
    )
    links = "".join(f'<a href="#{key}">{name}</a>' for key, name, content in sections if content)
    body = "".join(
        f'<section id="{key}" aria-labelledby="{key}-h"><h2 id="{key}-h">{name}</h2>{content}</section>'
        for key, name, content in sections
        if content
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
        ("learned", report.learned, shape[1:]),
    )
    for name, array, expected in wanted:
        if array is not None and array.shape != expected:
            raise ArrayError(f"the report's {name} has shape {array.shape}: give {expected}")


def _turned(report: Report) -> Report:
    """Everything as a person should see it."""
    way = report.orientation
    if way == 1:
        return report
    first, second = (upright(frame, way) for frame in report.originals)
    return replace(
        report,
        originals=(first, second),
        restored=upright(report.restored, way),
        truth=None if report.truth is None else upright(report.truth, way),
        gradient=upright_field(report.gradient, way),
        difference=upright(report.difference, way),
        motion=upright_field(report.motion, way),
        path=upright_field(report.path, way),
        weight=upright(report.weight, way),
        reason=upright(report.reason, way),
        learned=None if report.learned is None else upright(report.learned, way),
        strip=tuple(
            Pair(pair.name, upright(pair.original, way), upright(pair.restored, way)) for pair in report.strip
        ),
    )


def _figures(report: Report) -> str:
    """The headline: what a reader wants to know before anything else."""
    gains = [row.gain for row in report.frames if row.gain is not None]
    cards = []
    if gains:
        before = mean(row.psnr_before for row in report.frames if row.gain is not None)
        after = mean(row.psnr_after for row in report.frames if row.gain is not None)
        gain = mean(gains)
        cards.append(("Mean gain", f"{gain:+.2f} dB", f"PSNR {before:.2f} → {after:.2f}", verdict(gain)))
        cards.append(("Worst frame", f"{min(gains):+.2f} dB", "gain over its input", verdict(min(gains))))
    length = np.hypot(*report.path)
    cards += [
        ("Frames", f"{len(report.frames)}", size_words(report.originals[0]), ""),
        (
            "Blur path",
            f"{float(np.mean(length)):.1f} px",
            f"mean here; longest {float(length.max()):.1f} px",
            "",
        ),
        ("Exposure", f"{report.exposure_fraction:.3g}", "of the frame interval", ""),
        (
            "Restored",
            percent(mean(row.weight for row in report.frames)),
            "mean weight; the rest kept as it was",
            "",
        ),
        ("Noise", percent(mean(row.noise for row in report.frames), digits=2), "of full range", ""),
    ]
    items = "".join(
        f'<div><dt>{name}</dt><dd class="{mood}">{value}</dd><dd>{note}</dd></div>'
        for name, value, note, mood in cards
    )
    return f'<dl class="figures">{items}</dl>'


def _result(report: Report, before: Bytes, after: Bytes) -> str:
    name = escape(report.names[0])
    left = image(before, pictures.to_png, f"{name} as the camera took it, blurred by motion")
    right = image(after, pictures.to_png, f"{name} after restoration")
    width = min(before.shape[1] * max(1, round(960 / before.shape[1])), LONGEST)
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
        figure(pictures.crop(view, box), pictures.to_png, f"{name} detail, {where}", f"<b>{name}</b>")
        for name, view in views
    )
    return f'<p class="soft">The liveliest part, {where}.</p><div class="trio large">{figures}</div>'


def _originals(report: Report, shown: list[Bytes]) -> str:
    figures = "".join(
        figure(
            view, pictures.to_jpeg, f"{escape(name)}, blurred, as the source has it", f"<b>{escape(name)}</b>"
        )
        for name, view in zip(report.names, shown, strict=False)
    )
    return (
        '<p class="soft">Two neighbouring frames. What moved between them is what blurred them.</p>'
        f'<div class="pair">{figures}</div>'
    )


def _strip(report: Report, white: float) -> str:
    """Some frames, each before and after, small."""
    parts = []
    for pair in report.strip:
        name = escape(pair.name)
        halves = [
            pictures.display(codes, report.light, white=white) for codes in (pair.original, pair.restored)
        ]
        images = "".join(
            image(view, pictures.to_jpeg, f"{name}, {word}")
            for view, word in zip(halves, ("blurred", "restored"), strict=True)
        )
        parts.append(f'<figure><div class="halves">{images}</div><figcaption>{name}</figcaption></figure>')
    note = '<p class="soft">Left as the camera took it, right restored.</p>'
    return f'{note}<div class="wide">{"".join(parts)}</div>' if parts else ""


def _gradients(report: Report) -> str:
    steep = pictures.typical_largest(np.hypot(*report.gradient))
    change = pictures.typical_largest(report.difference)
    spatial = figure(
        pictures.gradient_picture(report.gradient, largest=steep), pictures.to_jpeg,
        "Magnitude of the spatial gradient: edges bright, plain areas dark",
        "<b>In space</b>: the Sobel gradient's magnitude", scale(ramp(), "0", f"{steep:.3g}"))  # fmt: skip
    temporal = figure(
        pictures.difference_picture(report.difference, largest=change), pictures.to_jpeg,
        "Temporal difference: red where it became brighter, blue where it became darker",
        "<b>In time</b>: from one frame to the next",
        scale(signed_ramp(), f"&minus;{change:.3g}", f"+{change:.3g}"))  # fmt: skip
    return (
        '<p class="soft">Where the picture changes from place to place, and from one frame to the next: '
        f'together they tell the motion.</p><div class="pair">{spatial}{temporal}</div>'
    )


def _motion(report: Report) -> str:
    length = np.hypot(*report.motion)
    longest, top = pictures.typical_largest(length), pictures.typical_largest(np.hypot(*report.path))
    dy, dx = (float(np.mean(part)) for part in report.motion)
    wheel = image(
        motion_wheel(176),
        pictures.to_png,
        "Colour wheel: right red, down yellow, left cyan, up violet",
        style="wheel",
    )
    legend = (
        f'<div class="legend">{wheel}<span>The hue is the direction: right is red, down yellow, left cyan, '
        f"up violet. Full colour at the rim is {longest:.1f} px.</span></div>"
    )
    field = figure(
        pictures.motion_picture(report.motion, longest=longest), pictures.to_png,
        f"Motion field in the colour wheel; mean motion {dx:.1f} px to the right and {dy:.1f} px down",
        f"<b>Motion</b> to the next frame: on average {dx:+.1f} px across and {dy:+.1f} px down",
        legend)  # fmt: skip
    path = figure(
        pictures.length_picture(report.path, largest=top), pictures.to_png,
        "Length of the blur path at each pixel",
        f"<b>Blur path</b>: motion &times; exposure fraction {report.exposure_fraction:.3g}",
        scale(ramp(), "0", f"{top:.1f} px"))  # fmt: skip
    return (
        '<p class="soft">How far each pixel moves in a frame, and how long the path is that smeared it.</p>'
        f'<div class="pair">{field}{path}</div>'
    )


def _gate(report: Report, before: Bytes) -> str:
    counts = np.bincount(report.reason.ravel(), minlength=256)
    rows = "".join(
        f'<li><i style="background:rgb{pictures.REASON_COLOURS[kind]}"></i>'
        f"<b>{percent(counts[kind] / counts.sum())}</b>"
        f"<span>{pictures.REASON_WORDS[kind]}</span></li>"
        for kind in Reason
        if counts[kind]
    )
    weight = figure(
        pictures.weight_picture(report.weight), pictures.to_png, "Weight of the restoration at each pixel",
        f"<b>Weight</b>: mean {float(report.weight.mean()):.2f}",
        scale(ramp(), "0 source", "1 restored"))  # fmt: skip
    reason = figure(
        pictures.reason_picture(report.reason, before), pictures.to_png,
        "Why pixels kept their source value, in colours",
        "<b>Reason</b>, over the frame in grey", f'<ul class="reasons">{rows}</ul>')  # fmt: skip
    return (
        '<p class="soft">Where the evidence is weak, a pixel keeps its source value, and says why.</p>'
        f'<div class="pair">{weight}{reason}</div>'
    )


def _network(report: Report, shown: list[Bytes]) -> str:
    """What the network changed of what physics restored, and how that compares; nothing where there is none."""
    if report.learned is None:
        return ""
    change = (shown[2].astype(np.float32) - shown[0].astype(np.float32)).mean(axis=2) / 255
    mine, whole = float(np.abs(report.learned).mean()), float(np.abs(change).mean())
    largest = pictures.typical_largest(report.learned)
    learned = figure(
        pictures.difference_picture(report.learned, largest=largest), pictures.to_png,
        "What the network changed: red where it made the picture brighter than physics did, blue where darker",
        f"<b>By the network</b>: on average {mine:.4f} of full range, as square roots of light",
        scale(signed_ramp(), f"&minus;{largest:.3g}", f"+{largest:.3g}"))  # fmt: skip
    all_of_it = figure(
        pictures.difference_picture(change, largest=pictures.typical_largest(change)), pictures.to_png,
        "What restoration changed as a whole, in the same colours",
        f"<b>The whole change</b>: on average {whole:.4f} of what is shown", "")  # fmt: skip
    return (
        '<p class="soft">Physics restores along the path that was measured; the network corrects that. Where the left '
        f'picture is strong, they disagree.</p><div class="pair">{learned}{all_of_it}</div>'
    )


def _provenance(groups: Mapping[str, Mapping[str, object]]) -> str:
    parts = []
    for k, (name, rows) in enumerate(groups.items()):
        lines = "".join(
            f'<tr><th scope="row">{escape(str(key))}</th><td>{escape(plain(value))}</td></tr>'
            for key, value in rows.items()
        )
        state = " open" if k == 0 else ""
        parts.append(
            f"<details{state}><summary>{escape(name)}</summary><table><tbody>{lines}</tbody></table></details>"
        )
    return '<p class="soft">What went in, what was asked for, and what did it.</p>' + "".join(parts)
