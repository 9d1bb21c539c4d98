"""The page in a real browser, where there is one: its script runs under its own content policy."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from deblur.report import render_report
from tests.browser import BROWSER, NONE, QUIET
from tests.report.test_html import _report

PHONE = ("--disable-gpu", "--window-size=390,844", "--dump-dom")


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason=NONE)
def test_the_slider_works_in_a_browser(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(render_report(_report()), encoding="utf-8")
    done = subprocess.run(
        [str(BROWSER), *QUIET, *PHONE, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert 'aria-valuetext="50 % blurred, the rest restored"' in done.stdout
    assert re.search(r'class="compare"[^>]*--at: ?50%', done.stdout)
