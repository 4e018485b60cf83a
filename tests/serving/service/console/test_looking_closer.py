"""The same request in another language, the neighbours of an item, and rules on trial."""

from playwright.sync_api import Page, expect

from tests.serving.service.console.conftest import Console, titles

_BLOCK = "rules:\n  - {name: no 연애, kind: block, where: {categories: {contains: Romance}}}\n"


def _plain(text: str) -> str:
    return text.replace("\u2068", "").replace("\u2069", "")


def test_a_person_in_another_language(console: Console) -> None:
    page = console.open("bilingual")
    before = titles(page)
    page.select_option("#other-language", "ko")
    page.click("#other button")
    expect(page.locator("#other-before-items .name")).to_have_text(before)
    after = page.locator("#other-after-items .name").all_inner_texts()
    # The fake prefers the language that is asked for.
    assert after[0] == "연애 편지"
    assert set(after) == set(before)
    place = before.index("연애 편지")
    expect(page.locator("#other-after-items li").first).to_contain_text(f"up {place} places")
    expect(page.locator("#other-after-items .move.down")).to_have_count(place)
    page.check("#other-only")
    page.click("#other button")
    expect(page.locator("#other-after-items .name")).to_have_text(["연애 편지"])
    expect(page.locator("#other-before-items .gone")).to_have_count(len(before) - 1)
    assert _plain(page.locator("#other-after").inner_text()) == "In this language: Korean"
    page.select_option("#language", "ar")
    expect(page.locator("#other-after")).to_contain_text("الكورية")
    # Of another answer it says nothing.
    page.locator("#items button").first.click()
    expect(page.locator("#other-lists")).to_be_hidden()


def test_neighbours_of_an_item(console: Console) -> None:
    page = console.open()
    page.locator("#nav a[href='#products']").click()
    row = page.locator("#catalogue li", has_text="Old Comedy")
    row.get_by_role("button", name="Neighbours").click()
    expect(page.locator("#near")).to_be_focused()
    assert _plain(page.locator("#near-title").inner_text()) == "Neighbours of Old Comedy"
    assert "finds it in place 1: chosen by the model" in _plain(page.locator("#near-own").inner_text())
    expect(page.locator("#near-items li")).to_have_count(10)
    expect(page.locator("#near-items li", has_text="Old Comedy")).to_have_count(0)
    page.fill("#p-title", "갓 나온 우주선")
    page.fill("#p-id", "p-near")
    page.click("#save")
    expect(page.locator("#saved")).to_contain_text("can be recommended")
    page.locator("#catalogue li", has_text="갓 나온").get_by_role("button", name="Neighbours").click()
    expect(page.locator("#near-own")).to_contain_text("newer than the model")
    console.store.delete_items(["p-near"])


def _rules(console: Console) -> Page:
    page = console.open()
    with page.expect_response("**/v1/rules"):
        page.locator("#nav a[href='#rules']").click()
    return page


def test_rules_are_tried_before_they_are_stored(console: Console) -> None:
    page = _rules(console)
    page.fill("#rules-text", _BLOCK)
    page.fill("#rules-person", "ana")
    page.click("#rules-preview")
    expect(page.locator("#rules-effects")).to_be_focused()
    lists = page.locator("#rules-lists ol")
    expect(lists).to_have_count(2)
    expect(lists.nth(0)).to_contain_text("연애 편지")
    expect(lists.nth(1)).not_to_contain_text("연애 편지")
    # Three of four films of love; she knows the fourth.
    expect(lists.nth(0).locator(".gone")).to_have_count(3)
    assert console.store.rules() == ("", 0)
    assert page.locator("#rules-warnings li").count() == 0
    page.fill("#rules-person", "")
    page.fill("#rules-query", "comedy")
    page.click("#rules-preview")
    expect(page.locator("#rules-lists .effect").nth(1)).to_be_visible()

    page.click("#rules-store")
    page.click("#dialog-no")
    assert console.store.rules() == ("", 0)
    page.click("#rules-store")
    page.click("#dialog-yes")
    expect(page.locator("#rules-stored")).to_contain_text("are stored")
    assert console.store.rules() == (_BLOCK.strip(), 1)

    console.store.put_rules("rules: []", "somebody else")
    page.fill("#rules-text", _BLOCK + "# mine\n")
    page.click("#rules-store")
    page.click("#dialog-yes")
    expect(page.locator("#alert")).to_contain_text("by now")
    assert console.store.rules() == ("rules: []", 2)
    expect(page.locator("#rules-text")).to_have_value(_BLOCK + "# mine\n")


def test_mistakes_and_rules_that_do_nothing(console: Console) -> None:
    page = _rules(console)
    page.fill("#rules-text", "rules:\n  - {name: x, kind: blok}\n")
    page.click("#rules-preview")
    expect(page.locator("#alert")).to_contain_text("blok")
    page.fill("#rules-text", "rules:\n  - {name: 새, kind: block, where: {seler: {equals: a}}}\n")
    page.click("#rules-preview")
    expect(page.locator("#rules-warnings li")).to_contain_text("seler")
    expect(page.locator("#alert")).to_be_hidden()
    expect(page.locator("#rules-lists .effect").first).to_contain_text("Nothing changes.")
