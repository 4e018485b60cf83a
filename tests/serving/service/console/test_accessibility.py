"""axe-core finds nothing in any view, and the page fits into 320 pixels."""

from collections.abc import Callable
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


def _compare(page: Page) -> None:
    page.select_option("#other-language", "ko")
    page.click("#other button")
    expect(page.locator("#other-after-items li").first).to_be_visible()


def _find_neighbours(page: Page) -> None:
    page.locator("#catalogue li").first.locator("button").nth(1).click()
    expect(page.locator("#near")).to_be_visible()


def _open_updates(page: Page) -> None:
    expect(page.locator("#rollouts > li")).to_have_count(3)
    for each in page.locator("#rollouts summary").all():
        each.click()


def _open_metrics(page: Page) -> None:
    page.select_option("#m-by", "language")
    expect(page.locator("#m-legend li")).to_have_count(4)
    page.locator("#m-figures summary").click()
    page.click("#m-drift")
    expect(page.locator("#m-drift-table tbody tr").first).to_be_visible()


def _preview(page: Page) -> None:
    page.fill("#rules-text", "rules:\n  - {name: 새, kind: block, where: {seler: {equals: a}}}")
    page.click("#rules-preview")
    expect(page.locator("#rules-warnings li")).to_have_count(1)
    _check(page, "a warning")
    page.fill("#rules-text", "rules:\n  - {name: 새, kind: block, where: {language: {equals: en}}}")
    page.click("#rules-preview")
    expect(page.locator("#rules-lists ol").first).to_be_visible()


_VIEWS: dict[str, Callable[[Page], None]] = {
    "people": _compare,
    "products": _find_neighbours,
    "updates": _open_updates,
    "metrics": _open_metrics,
    "rules": _preview,
}


@pytest.mark.parametrize("mode", [*_MODES, "zh", "es", "ko"])
def test_every_view_with_a_past(living: Console, mode: str) -> None:
    settings = _MODES.get(mode, {"locale": mode, **_NARROW})
    page = living.new_page(**settings)
    for view, fill in _VIEWS.items():
        living.open_view(view, page=page)
        fill(page)
        _check(page, view)
        if view == "updates":
            page.locator("[data-keep=rollback]").first.click()
            expect(page.locator("#dialog-reason")).to_be_focused()
            _check(page, "a reason")
            page.keyboard.press("Escape")


@pytest.mark.parametrize("language", ["zh", "es", "ko"])
def test_all_languages_fit_into_a_narrow_page(console: Console, language: str) -> None:
    page = console.open(locale=language, **_NARROW)
    page.locator("#items button").first.click()
    expect(page.locator("#change")).to_be_visible()
    for view in (0, 1):
        page.locator("#nav a").nth(view).click()
        widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1], (language, view)
