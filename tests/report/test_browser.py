"""The page in a real browser, where there is one: on a phone, by the keyboard alone, under its own content policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from deblur.report import render_report
from tests.browser import BROWSER, NONE, Ask, Press, visit
from tests.report.test_html import _report

FOCUSED = """(() => {
  const here = document.activeElement, shown = getComputedStyle(here.matches('input') ? here.parentElement : here);
  return [here.tagName, here.getAttribute('aria-label') || here.textContent, shown.outlineStyle, shown.outlineWidth];
})()"""
SLIDER = "document.querySelector('input').getAttribute('aria-valuetext')"
EDGE = "document.querySelector('.compare').style.getPropertyValue('--at')"


async def _by_keyboard(press: Press, ask: Ask) -> None:
    assert await ask("document.documentElement.scrollWidth <= innerWidth"), (
        "the page is wider than the screen"
    )
    assert await ask(SLIDER) == "50 % blurred, the rest restored"
    sizes = "[...document.querySelectorAll('a, button, summary')].map(e => e.getBoundingClientRect().height)"
    assert min(await ask(sizes)) >= 24  # pixels: what a thumb needs
    order = []
    for _ in range(100):
        await press("Tab")
        tag, name, style, width = await ask(FOCUSED)
        if tag == "BODY":
            break
        assert (style, width) == ("solid", "3px"), f"nobody sees that {tag} {name} has the focus"
        order.append(tag)
        if tag == "INPUT":
            for key, at in (("ArrowRight", 51), ("ArrowLeft", 50), ("Home", 0), ("End", 100)):
                await press(key)
                assert (await ask(SLIDER)).startswith(f"{at} % blurred")
                assert await ask(EDGE) == f"{at}%"
        if (tag, name) == ("BUTTON", "Half and half"):
            await press("Enter")
            assert await ask(EDGE) == "50%"
        if tag == "SUMMARY":
            before = await ask("document.activeElement.parentElement.open")
            await press("Enter")
            assert await ask("document.activeElement.parentElement.open") is not before
    links = order.count("A")
    assert links >= 7
    assert order == ["A"] * links + ["INPUT"] + ["BUTTON"] * 3 + ["DIV"] + ["SUMMARY"] * 2


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason=NONE)
def test_the_page_works_on_a_phone_and_by_the_keyboard_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(render_report(_report()), encoding="utf-8")
    visit(page, tmp_path / "profile", _by_keyboard)
