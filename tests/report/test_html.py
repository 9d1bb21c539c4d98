"""The page stands alone, is well formed, says the figures, and trusts no name."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from deblur.errors import ArrayError
from deblur.light import Light
from deblur.report import FrameRow, Report, render_report
from deblur.report.html import Pair
from deblur.types import Reason

VOID = {"meta", "img", "input", "br"}


class _Tree(HTMLParser):
    """Checks that tags close in order; collects ids, references, images and controls."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _report() -> Report:
    rng = np.random.default_rng(0)
    shape = (40, 56)
    frames = rng.integers(0, 256, (3, 3, *shape), np.uint8)
    reason = np.zeros(shape, np.uint8)
    reason[:, :14] = Reason.UNCERTAIN
    motion = np.stack([np.full(shape, -1.5), np.full(shape, 6.0)]).astype(np.float32)
    return Report(
        title="A walk",
        summary="Two frames.",
        light=Light(0.0, 255.0, "srgb"),
        names=("a.png", "b.png"),
        originals=(frames[0], frames[1]),
        restored=frames[2],
        gradient=rng.normal(0, 1, (2, *shape)).astype(np.float32),
        difference=rng.normal(0, 1, shape).astype(np.float32),
        motion=motion,
        path=motion * np.float32(0.5),
        exposure_fraction=0.5,
        weight=np.where(reason == 0, 1, 0).astype(np.float32),
        reason=reason,
        frames=(FrameRow("a.png", 0.75, 0.004, 20.0, 25.5), FrameRow("b.png", 0.25, 0.004, 21.0, 20.95)),
        provenance={
            "Run": {"run": "r-1"},
            "Parameters": {"iterations": 30, "tau": 0.1 + 0.2, "window": {"size": 256}},
        },
        truth=frames[2],
    )


def _tags(page: str) -> list[tuple[str, dict[str, str | None]]]:
    tree = _Tree()
    tree.feed(page)
    assert tree.open == []
    return tree.tags


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    page = render_report(_report())
    for tag, attributes in _tags(page):
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        for name in ("src", "href", "action", "srcset", "poster"):
            value = attributes.get(name) or ""
            assert value.startswith(("data:image/", "#")) or not value
    assert "http://" not in page
    assert "https://" not in page
    assert "url(" not in page
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page


def test_every_picture_has_words_and_every_link_a_target() -> None:
    tags = _tags(render_report(_report()))
    images = [a for t, a in tags if t == "img"]
    assert len(images) >= 12
    assert all("alt" in a and a["width"] and a["height"] for a in images)
    assert all(a["alt"] for a in images if a.get("class") != "ramp")  # a ramp's words stand beside it
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {(a["href"] or "")[1:] for t, a in tags if t == "a"} <= set(ids)


def test_the_slider_is_a_named_range_that_the_keyboard_moves() -> None:
    tags = _tags(render_report(_report()))
    (slider,) = [a for t, a in tags if t == "input"]
    assert (slider["type"], slider["min"], slider["max"]) == ("range", "0", "100")
    assert "a.png" in (slider["aria-label"] or "")
    assert [a["value"] for t, a in tags if t == "button"] == ["100", "50", "0"]


def test_it_says_the_figures() -> None:
    page = render_report(_report())
    for text in (
        "+2.72 dB",
        "-0.05 dB",
        "50.0 %",
        "25.0 %",
        "0.40 %",
        "56 &times; 40, 3 channels, uint8",
        "+5.50",
    ):
        assert text in page
    assert f"{np.hypot(0.75, 3):.1f} px" in page
    assert "0.3<" in page  # floats are shown short
    assert "Truth" in page


def test_without_truth_there_is_no_psnr() -> None:
    rows = (FrameRow("a.png", 0.5, 0.01), FrameRow("b.png", 0.5, 0.01))
    page = render_report(replace(_report(), truth=None, frames=rows))
    assert "PSNR before" not in page
    assert "Worst frame" not in page
    assert "No truth is known" in page


def test_frames_across_the_sequence_are_shown_in_pairs() -> None:
    report = _report()
    strip = tuple(Pair(name, report.originals[0], report.restored) for name in ("a.png", "b.png"))
    page = render_report(replace(report, strip=strip))
    assert page.count('class="halves"') == 2
    assert 'alt="b.png, restored"' in page
    assert 'href="#strip"' in page
    assert 'href="#strip"' not in render_report(report)


def test_a_camera_on_its_side_is_shown_upright() -> None:
    report = replace(_report(), strip=(Pair("a.png", _report().originals[0], _report().restored),))
    page = render_report(replace(report, orientation=6))
    assert "40 &times; 56, 3 channels, uint8" in page
    # a quarter to the right: what moved 6 px right and 1.5 up now moves 1.5 right and 6 down
    assert "+1.5 px across and +6.0 px down" in page
    assert "+6.0 px across and -1.5 px down" in render_report(report)


def test_the_share_restored_is_drawn_over_time_and_long_tables_are_thinned() -> None:
    rows = tuple(FrameRow(f"{k}.png", k / 4000, 0.01) for k in range(4001))
    page = render_report(replace(_report(), frames=rows))
    assert "from 0.0 % to 100.0 %, first 0.0 %, last 100.0 %" in page
    (curve,) = [a for t, a in _tags(page) if t == "svg"]
    assert curve["role"] == "img"
    assert len(re.findall('<th scope="row">[0-9]+.png', page)) <= 1000
    assert "Every 5th frame is listed" in page


def test_names_are_escaped_everywhere() -> None:
    nasty = '<script>alert("x")</script>&'
    page = render_report(
        replace(
            _report(),
            title=nasty,
            summary=nasty,
            names=(nasty, nasty),
            frames=(FrameRow(nasty, 1.0, 0.0),),
            provenance={nasty: {nasty: nasty}},
        )
    )
    assert len(re.findall("<script>", page)) == 1  # its own
    assert 'alert("x")' not in page
    _tags(page)


def test_one_channel_floats_and_no_rows_are_shown_too() -> None:
    report = _report()
    grey = tuple(frame[:1].astype(np.float32) / 300 for frame in report.originals)
    page = render_report(
        replace(
            report,
            light=Light(0.0, 1.0, "linear"),
            originals=(grey[0], grey[1]),
            restored=grey[0],
            truth=None,
            frames=(),
        )
    )
    assert "1 channel, float32" in page
    assert not re.search(r"\bnan\b", re.sub(r"data:image/[^\"]*", "", page))


def test_arrays_that_do_not_fit_are_named() -> None:
    report = _report()
    with pytest.raises(ArrayError, match=r"the report's weight has shape \(3, 3\): give \(40, 56\)"):
        render_report(replace(report, weight=np.zeros((3, 3), np.float32)))
    with pytest.raises(ArrayError, match=r"give \(c, y, x\)"):
        render_report(replace(report, originals=(report.originals[0][0], report.originals[1][0])))


def test_equal_infinite_psnr_counts_as_no_gain() -> None:
    assert FrameRow("a", 0.0, 0.0, np.inf, np.inf).gain == 0.0
    assert FrameRow("a", 0.0, 0.0, 20.0, None).gain is None
