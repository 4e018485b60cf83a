"""Metrics in the console: the chart, the table, what has changed."""

from playwright.sync_api import Page, expect

from tests.serving.service.console.conftest import Console


def _open(living: Console) -> Page:
    page = living.open_view("metrics")
    _answered(page)
    return page


def _answered(page: Page) -> None:
    expect(page.locator("#m-table tbody tr").first).to_be_attached()
    expect(page.locator("#m-figures")).not_to_have_attribute("aria-busy", "true")


def test_the_table_has_what_the_service_says(living: Console) -> None:
    with (page := living.new_page()).expect_response("**/v1/metrics?*") as response:
        living.open_view("metrics", page=page)
    _answered(page)
    found = response.value.json()
    ctr = found["all"]["metrics"]["ctr"]
    expect(page.locator("#m-all")).to_contain_text(f"{ctr['value']:.2%}".replace(".00%", "%").replace("0%", "%"))
    page.locator("#m-figures summary").click()
    rows = page.locator("#m-table tbody tr")
    expect(rows).to_have_count(len(found["slices"]))
    expect(rows.first.locator("td.number").last).to_have_text(str(found["slices"][0]["people"]))
    expect(page.locator("#m-notes")).to_contain_text(f"Answers: {found['all']['answers']:,}")


def test_lines_by_language_with_bands(living: Console) -> None:
    page = _open(living)
    expect(page.locator("#m-chart .marker")).to_have_count(page.locator("#m-table tbody tr").count())
    with page.expect_response("**/v1/metrics?*") as response:
        page.select_option("#m-by", "language")
    _answered(page)
    assert "by=day,language" in response.value.url
    # The fewest people read Korean: no day has ten of them.
    expect(page.locator("#m-legend li")).to_have_text(["English", "Arabic", "Chinese", "Korean"])
    expect(page.locator("#m-chart svg")).to_have_attribute("role", "img")
    assert page.locator("#m-chart .s0 .band").count() >= 1
    expect(page.locator("#m-chart .s3 .band")).to_have_count(0)
    page.locator("#m-figures summary").click()
    expect(page.locator("#m-table tbody tr", has_text="Korean").first).to_contain_text("fewer than 10 people")
    page.select_option("#m-metric", "coverage")
    expect(page.locator("#m-definition")).to_contain_text("grows with traffic")
    expect(page.locator("#m-chart .band")).to_have_count(0)


def test_points_are_in_proportion(living: Console) -> None:
    with (page := living.new_page()).expect_response("**/v1/metrics?*") as response:
        living.open_view("metrics", page=page)
    _answered(page)
    values = [each["metrics"]["ctr"]["value"] for each in response.value.json()["slices"]]
    middles = page.locator("#m-chart circle").evaluate_all("all => all.map((each) => each.cy.baseVal.value)")
    bottom = page.locator("#m-chart .grid").first.evaluate("line => line.y1.baseVal.value")
    scale = {round((bottom - middle) / value, 6) for value, middle in zip(values, middles, strict=True) if value}
    assert max(scale) - min(scale) < 1e-3 * max(scale)


def test_periods_versions_and_complete_answers(living: Console) -> None:
    page = _open(living)
    with page.expect_response("**/v1/metrics?*") as response:
        page.select_option("#m-days", "28")
    assert "until=" in response.value.url
    _answered(page)
    with page.expect_response("**/v1/metrics?*by=day,version*"):
        page.select_option("#m-by", "version")
    _answered(page)
    expect(page.locator("#m-legend li")).to_have_count(2)
    labels = page.locator("#m-legend li").all_inner_texts()
    assert {each.replace("\u2068", "").replace("\u2069", "") for each in labels} == {"version 4", "version 5"}
    with page.expect_response("**/v1/metrics?*complete=true*"):
        page.check("#m-complete")
    _answered(page)
    expect(page.locator("#m-notes")).not_to_contain_text("may still come")


def test_what_has_changed(living: Console) -> None:
    page = _open(living)
    expect(page.locator("#m-drift-result")).to_be_hidden()
    with page.expect_response("**/v1/metrics/drift?*") as response:
        page.click("#m-drift")
    expect(page.locator("#m-drift-result")).to_be_focused()
    rows = page.locator("#m-drift-table tbody tr")
    changes = response.value.json()["changes"]
    expect(rows).to_have_count(len(changes))
    for row, change in zip(rows.all(), changes, strict=True):
        expect(row.locator(".verdict")).to_have_text(change["reading"])
    expect(rows.first).to_contain_text("Language")
    expect(rows.first).to_contain_text("English")


def test_a_service_without_answers(console: Console) -> None:
    page = console.open_view("metrics")
    expect(page.locator("#m-empty")).to_be_visible()
    expect(page.locator("#m-chart svg")).to_have_count(0)
