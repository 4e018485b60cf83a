"""What people do in the console, and what the service has then."""

import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.serving.service.console.conftest import Console, choose, titles

_ANIMATIONS = """window.animations = 0;
const usual = Element.prototype.animate;
Element.prototype.animate = function (...given) { window.animations++; return usual.apply(this, given); };"""


def test_the_key_is_asked_for_once(console: Console) -> None:
    page = console.new_page()
    page.goto(console.url)
    expect(page.locator("#key")).to_be_focused()
    for key, words in (("brk_wrong", "no longer valid"), ("ключ", "no longer valid"), (console.keys["app"], "may not")):
        page.fill("#key", key)
        page.press("#key", "Enter")
        expect(page.locator("#key-error")).to_contain_text(words)
    page.fill("#key", console.keys["admin"])
    page.click("#key-form button")
    expect(page.locator("#items li")).to_have_count(10)
    page.reload()
    expect(page.locator("#items li")).to_have_count(10)
    assert page.context.cookies() == []
    assert "brk_" not in str(page.evaluate("JSON.stringify(localStorage)"))


def test_a_key_in_the_address_does_not_stay_there(console: Console) -> None:
    page = console.open()
    assert page.url == console.url
    assert page.evaluate("history.length") <= 2
    expect(page.locator("#view-key")).to_be_hidden()


def test_the_state_of_the_service(console: Console) -> None:
    page = console.open()
    expect(page.locator("#state")).to_have_text(re.compile("Model version .?7.? · 1[34] products · all up to date"))
    expect(page.locator("#light")).to_have_attribute("data-state", "good")


def test_a_person_is_picked_or_typed(console: Console) -> None:
    page = console.open()
    expect(page.locator("#history .name")).to_have_text(["Carta de amor", "A Love Letter"])
    assert "bought" in page.locator("#history .hint").first.inner_text()
    page.fill("#person", "an")
    expect(page.locator("#people li")).to_have_count(2)
    expect(page.locator("#people li").nth(1)).to_contain_text("German")
    page.locator("#people li").nth(1).click()
    expect(page.locator("#results-title")).to_contain_text("anton")
    expect(page.locator("#history-empty")).to_be_visible()
    choose(page, "민수/1")
    expect(page.locator("#history .name")).to_have_text(["The Space Ship"])
    expect(page.locator("#history .name")).to_have_attribute("lang", "en")
    page.click("#visitor")
    expect(page.locator("#results-title")).to_have_text("Recommended for a new visitor")
    expect(page.locator("#delete-person")).to_be_hidden()


def test_why_an_item_is_there(console: Console) -> None:
    page = console.open()
    row = page.locator("#items li").nth(1)
    for words in ("chosen by the model", "rule: ", "own first", "1.00", "1.20", "70%", "watched to the end: 0.3"):
        expect(row).to_contain_text(words)
    expect(page.locator("#removed")).to_contain_text("kept 2 items out")


def test_titles_are_text_in_their_own_language(console: Console) -> None:
    page = console.open("nobody yet")
    page.fill("#query", "moon")
    page.press("#query", "Enter")
    expect(page.locator("#items .name").first).to_have_text("Moon & <b>Sun</b>")
    page.fill("#query", "سفينة")
    page.press("#query", "Enter")
    first = page.locator("#items .name").first
    expect(first).to_have_text("سفينة فضاء")
    assert (first.get_attribute("lang"), first.get_attribute("dir")) == ("ar", "auto")
    expect(page.locator("#announcer")).to_contain_text("سفينة فضاء")
    page.click("#clear")
    expect(page.locator("#results-title")).to_contain_text("Recommended for")
    page.locator(".try").first.click()
    expect(page.locator("#query")).to_have_value("a heist that goes wrong")


def test_a_click_changes_the_next_answer(console: Console) -> None:
    page = console.new_page(reduced_motion="no-preference")
    page.add_init_script(_ANIMATIONS)
    page.goto(f"{console.url}#key={console.keys['admin']}")
    choose(page, "clicker")
    before = titles(page)
    place = before.index("Old Comedy")
    with page.expect_response("**/v1/recommendations") as shown:
        page.locator("#items button").nth(place).click()
    expect(page.locator("#change")).to_contain_text("Old Comedy")
    after = titles(page)
    assert after[0] == "New Comedy"
    assert "Old Comedy" not in after
    expect(page.locator("#items li").first).to_contain_text("new")
    expect(page.locator("#items .move.down")).to_have_count(9)
    expect(page.locator("#items li").nth(1)).to_contain_text("down 1 place")
    expect(page.locator("#announcer")).to_contain_text("1 item is new, 9 moved. First now: ")
    expect(page.locator("#history .name").first).to_have_text("Old Comedy")
    expect(page.locator("#items button").nth(place)).to_be_focused()
    assert page.evaluate("window.animations") == 10
    (event,) = [each for each in console.store.events_after("")[0] if each.user_id == "clicker"]
    assert (event.event, event.item_id, event.position, event.placement) == ("click", "i09", place, "console")
    assert len(event.recommendation_id) == 32
    assert event.recommendation_id != shown.value.json()["recommendation_id"]  # that is the next one


def test_nothing_moves_for_those_who_do_not_want_it(console: Console) -> None:
    page = console.new_page(reduced_motion="reduce")
    page.add_init_script(_ANIMATIONS)
    page.goto(f"{console.url}#key={console.keys['admin']}")
    choose(page, "calm")
    page.locator("#items button").first.click()
    expect(page.locator("#change")).to_be_visible()
    assert page.evaluate("window.animations") == 0


def test_a_visitor_s_clicks_count_too(console: Console) -> None:
    page = console.open()
    page.click("#visitor")
    expect(page.locator("#results-title")).to_have_text("Recommended for a new visitor")
    page.locator("#items button", has_text="Old Comedy").click()
    expect(page.locator("#change")).to_contain_text("Old Comedy")
    assert titles(page)[0] == "New Comedy"
    expect(page.locator("#history .name")).to_have_text(["Old Comedy"])


def _products(page: Page) -> None:
    page.locator("#nav a").nth(1).click()
    expect(page.locator("#catalogue li").first).to_be_visible()


def test_a_product_from_birth_to_death(console: Console) -> None:
    page = console.open()
    _products(page)
    page.fill("#p-title", "고양이 우주선")
    page.select_option("#p-language", "ko")
    page.fill("#p-categories", "Sci-Fi، Katzen,  ")
    page.fill("#p-description", "고양이가 달에 갑니다.")
    page.click("#save")
    expect(page.locator("#saved")).to_contain_text("can be recommended")
    (item,) = console.store.find_items("고양이 우주선")
    assert (item.language, list(item.categories), item.available) == ("ko", ["Sci-Fi", "Katzen"], True)
    page.click("#find")
    first = page.locator("#items li").first
    expect(first).to_contain_text("고양이 우주선")
    expect(first).to_contain_text("newer than the model")

    _products(page)
    page.fill("#text", "고양이")
    expect(page.locator("#catalogue li")).to_have_count(1)
    page.get_by_role("button", name="Edit").click()
    expect(page.locator("#p-description")).to_have_value("고양이가 달에 갑니다.")
    assert page.locator("#p-id").get_attribute("readonly") is not None
    page.fill("#p-title", "고양이 로켓")
    page.click("#save")
    expect(page.locator("#saved")).to_contain_text("is changed")
    expect(page.locator("#catalogue .name")).to_have_text("고양이 로켓")
    page.get_by_role("button", name="Make unavailable").click()
    expect(page.locator("#catalogue .tag.off")).to_have_text("unavailable")
    assert not console.store.items([item.item_id])[item.item_id].available
    page.get_by_role("button", name="Make available").click()
    expect(page.locator("#catalogue .tag.off")).to_have_count(0)
    page.get_by_role("button", name="Delete").click()
    page.click("#dialog-no")
    assert item.item_id in console.store.items([item.item_id])
    page.get_by_role("button", name="Delete").click()
    page.click("#dialog-yes")
    expect(page.locator("#catalogue-empty")).to_be_visible()
    assert item.item_id not in console.store.items([item.item_id])


def test_a_product_does_not_replace_another(console: Console) -> None:
    page = console.open()
    _products(page)
    page.fill("#p-title", "Mine")
    page.fill("#p-id", "i00")
    page.click("#save")
    expect(page.locator("#saved")).to_contain_text("There is a product")
    expect(page.locator("#p-id")).to_be_focused()
    assert console.store.items(["i00"])["i00"].title == "The Space Ship"
    page.fill("#p-id", "a\u0301")
    page.click("#save")
    expect(page.locator("#alert")).to_contain_text("normal form C")


def test_a_person_is_deleted(console: Console) -> None:
    page = console.open("gone/soon")
    page.locator("#items button").first.click()
    expect(page.locator("#history li")).to_have_count(1)
    page.click("#delete-person")
    expect(page.locator("#dialog")).to_contain_text("gone/soon")
    expect(page.locator("#dialog-no")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#dialog")).to_be_hidden()
    assert console.store.history("gone/soon")
    page.click("#delete-person")
    page.click("#dialog-yes")
    expect(page.locator("#change")).to_contain_text("is deleted")
    expect(page.locator("#history-empty")).to_be_visible()
    assert not console.store.history("gone/soon")


def test_a_revoked_key_and_a_service_that_is_gone(console: Console) -> None:
    page = console.open()
    page.route("**/v1/search", lambda route: route.abort())
    page.fill("#query", "ship")
    page.press("#query", "Enter")
    expect(page.locator("#alert")).to_contain_text("can't be reached")
    page.route("**/v1/status", lambda route: route.abort())
    expect(page.locator("#light")).to_have_attribute("data-state", "gone")
    page.unroute("**/v1/search")
    page.evaluate("sessionStorage.setItem('babelrec.key', 'brk_revoked')")
    page.press("#query", "Enter")
    expect(page.locator("#key-error")).to_contain_text("no longer valid")
    expect(page.locator("#view-people")).to_be_hidden()


@pytest.mark.parametrize(
    ("locale", "title", "direction"),
    [
        ("zh-TW", "商品", "ltr"),
        ("es-MX", "Productos", "ltr"),
        ("ar-EG", "المنتجات", "rtl"),
        ("ko", "상품", "ltr"),
        ("fi", "Products", "ltr"),
    ],
)
def test_the_browser_s_language_is_the_page_s(console: Console, locale: str, title: str, direction: str) -> None:
    page = console.open(locale=locale)
    html = page.locator("html")
    expect(html).to_have_attribute("lang", locale[:2] if locale != "fi" else "en")
    expect(html).to_have_attribute("dir", direction)
    expect(page.locator("#nav a").nth(1)).to_have_text(title)


def test_the_menu_changes_the_language(console: Console) -> None:
    page = console.open()
    page.locator("#items button").first.click()
    expect(page.locator("#change")).to_be_visible()
    shown, tag = titles(page), page.locator("#items .tag").first.inner_text()
    page.select_option("#language", "ar")
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    expect(page.locator("#items .tag").first).not_to_have_text(tag)
    expect(page.locator("#state")).to_contain_text("إصدار النموذج")
    assert titles(page) == shown
    page.reload()
    expect(page.locator("#nav a").first).to_have_text("التوصيات")


def test_a_list_that_is_being_replaced_is_not_clicked(console: Console) -> None:
    page = console.open("first")
    held: list[Route] = []
    page.route("**/v1/recommendations", lambda route: held.append(route))
    page.fill("#person", "second")
    page.press("#person", "Enter")
    expect(page.locator("#items")).to_have_attribute("aria-busy", "true")
    page.locator("#items button").first.click()
    held[0].continue_()
    expect(page.locator("#results-title")).to_contain_text("second")
    expect(page.locator("#items")).not_to_have_attribute("aria-busy", "true")
    assert not {"first", "second"} & {each.user_id for each in console.store.events_after("")[0]}
