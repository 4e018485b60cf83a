"""Everything can be done by keyboard alone."""

from playwright.sync_api import Page, Route, expect

from tests.serving.service.console.conftest import Console, titles

_MOST = 80


def _tab_to(page: Page, selector: str, key: str = "Tab") -> None:
    """Presses Tab until an element has the focus, which can be seen there."""
    for _ in range(_MOST):
        if page.locator(selector).evaluate("element => element === document.activeElement"):
            outline = page.locator(selector).evaluate("element => getComputedStyle(element).outlineStyle")
            assert outline != "none"
            return
        page.keyboard.press(key)
    raise AssertionError(f"{selector} is not reached")


def test_the_whole_console(console: Console) -> None:
    page = console.new_page()
    page.goto(console.url)
    expect(page.locator("#key")).to_be_focused()
    page.keyboard.type(console.keys["admin"])
    page.keyboard.press("Enter")
    expect(page.locator("#items li")).to_have_count(10)

    _tab_to(page, "#person")
    page.keyboard.type("keyb")  # nobody yet
    page.keyboard.press("Enter")
    expect(page.locator("#results-title")).to_contain_text("keyb")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("an")
    expect(page.locator("#people li")).to_have_count(2)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#person")).to_have_attribute("aria-activedescendant", "person-1")
    page.keyboard.press("Escape")
    expect(page.locator("#people")).to_be_hidden()
    expect(page.locator("#person")).to_have_value("keyb")

    _tab_to(page, "#query")
    page.keyboard.type("comedy")
    page.keyboard.press("Enter")
    expect(page.locator("#items .name").first).to_have_text("Old Comedy")
    _tab_to(page, "#clear")
    page.keyboard.press("Enter")
    expect(page.locator("#results-title")).to_contain_text("Recommended for")
    expect(page.locator("#query")).to_be_focused()
    _tab_to(page, "#items li:first-child button")
    first = titles(page)[0]
    page.keyboard.press("Space")
    expect(page.locator("#change")).to_contain_text(first)
    expect(page.locator("#items li:first-child button")).to_be_focused()

    _tab_to(page, "#delete-person", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#dialog-no")).to_be_focused()
    _tab_to(page, "#dialog-yes")
    page.keyboard.press("Enter")
    expect(page.locator("#change")).to_contain_text("is deleted")
    expect(page.locator("#delete-person")).to_be_focused()

    _tab_to(page, "#nav a[href='#products']", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    _tab_to(page, "#p-title")
    page.keyboard.type("Typed")
    page.keyboard.press("Enter")
    expect(page.locator("#saved")).to_contain_text("can be recommended")
    _tab_to(page, "#catalogue li:first-child button:last-child")
    page.keyboard.press("Enter")
    _tab_to(page, "#dialog-yes")
    page.keyboard.press("Enter")
    expect(page.locator("#saved")).to_contain_text("is deleted")
    expect(page.locator("#text")).to_be_focused()


def test_whoever_types_before_the_first_answer_keeps_the_focus(console: Console) -> None:
    page = console.new_page()
    held: list[Route] = []
    page.route("**/v1/recommendations", lambda route: held.append(route))
    page.goto(console.url)
    page.fill("#key", console.keys["admin"])
    with page.expect_request("**/v1/recommendations"):
        page.press("#key", "Enter")
    expect(page.locator("#main")).to_be_focused()
    page.fill("#person", "an")
    expect(page.locator("#people li")).to_have_count(2)
    held[0].continue_()
    expect(page.locator("#items li")).to_have_count(10)
    expect(page.locator("#person")).to_be_focused()
    expect(page.locator("#people li").first).to_be_visible()


def test_the_content_is_one_step_away(console: Console) -> None:
    page = console.open()
    page.reload()
    expect(page.locator("#items li")).to_have_count(10)
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#person")).to_be_focused()
