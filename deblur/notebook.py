"""What notebooks show of a result: a frame before and after, where it was restored, and the numbers."""

from __future__ import annotations

import math
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.light import resolve
from deblur.report import pictures
from deblur.types import Bytes, Reason, Restoration

WIDTH = 480  # pixels of a picture


def restoration_html(result: Restoration) -> str:
    """A fragment of HTML: the middle frame and its maps, and a line of figures. It runs no script and loads nothing."""
    restored = np.asarray(result.frames)
    shown = len(restored) // 2
    views = []
    if result.source is not None:
        source = np.asarray(result.source)
        light = resolve(source.dtype, transfer=result.transfer, largest=float(source.max()))
        white = pictures.white_point(source[shown], light)
        views = [
            ("source", pictures.display(source[shown], light, white=white)),
            ("restored", pictures.display(restored[shown], light, white=white)),
        ]
    views.append(
        ("weight: dark kept, bright restored", pictures.weight_picture(np.asarray(result.weight)[shown]))
    )
    figures = "".join(_figure(picture, f"frame {shown}, {name}") for name, picture in views)
    rows = "".join(
        f"<tr><th style='text-align:left'>{key}</th><td>{escape(text)}</td></tr>"
        for key, text in _facts(result)
    )
    return f"<div><div style='display:flex;flex-wrap:wrap;gap:8px'>{figures}</div><table>{rows}</table></div>"


def _facts(result: Restoration) -> list[tuple[str, str]]:
    weight, reason = np.asarray(result.weight), np.asarray(result.reason)
    count = np.bincount(reason.ravel(), minlength=len(Reason))
    kept = [
        f"{count[kind] / reason.size:.0%} {kind.name.lower().replace('_', ' ')}"
        for kind in Reason
        if count[kind]
    ]
    doubt = f" ± {result.exposure_uncertainty:.2g}" if result.exposure_uncertainty else ""
    fraction = (
        "none: a still" if math.isnan(result.exposure_fraction) else f"{result.exposure_fraction:.3g}{doubt}"
    )
    longest = float(np.hypot(result.motion[:, 0], result.motion[:, 1]).max())
    return [
        ("frames", " × ".join(map(str, np.shape(result.frames))) + f", {np.asarray(result.frames).dtype}"),
        ("exposure fraction", fraction),
        ("mean weight", f"{float(weight.mean()):.2f}"),
        ("pixels", ", ".join(kept)),
        ("longest motion", f"{longest:.1f} px a frame"),
        ("noise", f"{float(np.mean(result.noise)):.2%} of full range"),
    ]


def _figure(picture: Bytes | NDArray[Any], words: str) -> str:
    small = pictures.shrink(picture, longest=WIDTH)
    source = pictures.data_uri(pictures.to_png(small))
    return (
        f"<figure style='margin:0'><img src='{source}' alt='{words}' width='{small.shape[1]}'>"
        f"<figcaption>{words}</figcaption></figure>"
    )
