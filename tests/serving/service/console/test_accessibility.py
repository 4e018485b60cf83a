"""axe-core finds nothing in any view, and the page fits into 320 pixels."""

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.serving.service.console.conftest import Console

_NARROW: dict[str, Any] = {"viewport": {"width": 320, "height": 640}}
# WCAG 2.2 AA; axe-core leaves it out unless asked.
_OPTIONS = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}
_MODES: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "right to left": {"locale": "ar"},
    "dark, right to left, narrow": {"locale": "ar", "color_scheme": "dark", **_NARROW},
    "narrow": _NARROW,
    "forced colours": {"forced_colors": "active"},
}


def _check(page: Page, view: str) -> None:
    found = Axe().run(page, options=_OPTIONS)
    assert found.violations_count == 0, f"{view}: {found.generate_report()}"
    width = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width[0] <= width[1], view


def test_faults_are_found(console: Console) -> None:
    page = console.open()
    page.evaluate("document.getElementById('main').prepend(document.createElement('button'))")
    with pytest.raises(AssertionError, match="button-name"):
        _check(page, "people")


@pytest.mark.parametrize("mode", _MODES)
def test_every_view(console: Console, mode: str) -> None:
    page = console.new_page(**_MODES[mode])
    page.goto(console.url)
    expect(page.locator("#key")).to_be_focused()
    page.fill("#key", "brk_wrong")
    page.press("#key", "Enter")
    expect(page.locator("#key-error")).not_to_be_empty()
    _check(page, "key")
    page.fill("#key", console.keys["admin"])
    page.press("#key", "Enter")
    expect(page.locator("html")).to_have_attribute("data-ready", "true")
    page.click("#visitor")
    expect(page.locator("#results-title")).not_to_contain_text("\u2068")
    page.fill("#person", "ana")
    page.press("#person", "ArrowDown")
    expect(page.locator("#people li").first).to_be_visible()
    page.press("#person", "ArrowDown")
    expect(page.locator("#people [aria-selected=true]")).to_have_count(1)
    _check(page, "people, open")
    page.press("#person", "Enter")
    expect(page.locator("#people")).to_be_hidden()
    expect(page.locator("#results-title")).to_contain_text("ana")
    page.locator("#items button").nth(3).click()
    expect(page.locator("#change")).to_be_visible()
    _check(page, "people, after a click")
    page.click("#delete-person")
    expect(page.locator("#dialog")).to_be_visible()
    _check(page, "dialog")
    page.keyboard.press("Escape")
    page.locator("#nav a").nth(1).click()
    expect(page.locator("#catalogue li").first).to_be_visible()
    page.locator("#catalogue button").first.click()
    expect(page.locator("#cancel")).to_be_visible()
    _check(page, "products")
    page.fill("#text", "no such thing")
    expect(page.locator("#catalogue-empty")).to_be_visible()
    page.route("**/v1/items*", lambda route: route.abort())
    page.fill("#text", "nothing")
    expect(page.locator("#alert")).to_be_visible()
    _check(page, "a problem")


@pytest.mark.parametrize("language", ["zh", "es", "ko"])
def test_all_languages_fit_into_a_narrow_page(console: Console, language: str) -> None:
    page = console.open(locale=language, **_NARROW)
    page.locator("#items button").first.click()
    expect(page.locator("#change")).to_be_visible()
    for view in (0, 1):
        page.locator("#nav a").nth(view).click()
        widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1], (language, view)
