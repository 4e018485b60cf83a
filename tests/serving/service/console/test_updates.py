"""Roll-outs in the console: what is shown of them, and what an administrator may do."""

import re

import pytest
from playwright.sync_api import Page, Route, expect

from serving.service.store import RolloutState
from tests.serving.service.console.conftest import Console


def _open(living: Console) -> Page:
    page = living.open_view("updates")
    expect(page.locator("#rollouts > li")).to_have_count(3)
    return page


def test_all_that_is_kept_of_a_roll_out(living: Console) -> None:
    page = _open(living)
    running, back, promoted = page.locator("#rollouts > li").all()
    for card, words in (
        (running, ("Version 6 against 4", "being tried", "The canary is ready.", "3% from", "10% from")),
        (back, ("Version 5 against 3", "rolled back", "ended", "고객이 불평한다", "25% from")),
        (promoted, ("Version 4 against 3", "promoted", "ended", "The canary is better: ctr")),
    ):
        for each in words:
            expect(card).to_contain_text(re.compile(each.replace(" ", ".?.? ?.?"), re.IGNORECASE))
    rows = running.locator(".lifts tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("Clicks per item shown")
    expect(rows.nth(0)).to_contain_text("+2.1%")
    # 0.021 - 0.034 and 0.021 + 0.034.
    expect(rows.nth(0)).to_contain_text(re.compile(r"-1\.3%.* to .*\+5\.5%"))
    expect(rows.nth(0).locator(".verdict")).to_have_text("undecided")
    expect(back.locator(".lifts .verdict").first).to_have_text("worse")
    expect(promoted.locator(".lifts .verdict").first).to_have_text("better")
    expect(running).to_contain_text("Answers: 41,207 · Failures: 3")


def test_the_picture_of_an_interval_is_in_proportion(living: Console) -> None:
    page = _open(living)
    lines = page.locator("#rollouts > li").nth(2).locator(".forest").nth(0).locator(".whisker").first
    ends = lines.evaluate("line => [line.x1.baseVal.value, line.x2.baseVal.value]")
    # Intervals of 0.03 to 0.13, -0.25 to 0.37 and -0.1 to 0.08: 0.37 is at 92 of the middle, 100.
    assert ends == pytest.approx([100 + 92 * 0.03 / 0.37, 100 + 92 * 0.13 / 0.37])


def test_the_gate_and_the_log(living: Console) -> None:
    page = _open(living)
    running, back, _ = page.locator("#rollouts > li").all()
    running.locator(".gate summary").click()
    expect(running.locator(".gate summary")).to_have_text("The gate: passed")
    expect(running.locator(".sentence")).to_contain_text("Promoted on 5,120 newest positives")
    rows = running.locator(".gate tbody tr")
    # What failed comes first.
    expect(rows.nth(0)).to_contain_text("coverage@10")
    expect(rows.nth(0).locator("td").last).to_have_text("no")
    expect(rows.nth(1).locator("td.number")).to_have_text(["0.2310", "0.2388", "0.2264", "2,048"])
    expect(rows.nth(1)).to_contain_text("0.0031")
    running.locator(".log summary").click()
    expect(running.locator(".entries li")).to_have_count(3)
    back.locator(".gate summary").click()
    expect(back.locator(".gate")).to_contain_text("루프")
    expect(page.locator("[data-keep=promote]")).to_have_count(1)


def test_what_is_open_stays_open_when_something_changes(living: Console) -> None:
    page = _open(living)
    card = page.locator("#rollouts > li").first
    card.locator(".gate summary").click()
    card.locator("[data-keep=rollback]").focus()
    rollout = living.store.rollout(3)
    living.store.put_rollout_figures(rollout, {**rollout.figures, "answers": 50_001})
    # The page looks again by itself.
    expect(card).to_contain_text("50,001")
    expect(card.locator(".gate tbody tr").first).to_be_visible()
    expect(card.locator("[data-keep=rollback]")).to_be_focused()
    living.store.put_rollout_figures(rollout, rollout.figures)
    expect(card).to_contain_text("41,207")


def test_a_service_that_is_gone_leaves_what_was_seen(living: Console) -> None:
    page = _open(living)
    page.route("**/v1/rollouts*", lambda route: route.abort())
    expect(page.locator("#updates-old")).to_be_visible()
    expect(page.locator("#rollouts > li")).to_have_count(3)
    page.unroute("**/v1/rollouts*")
    expect(page.locator("#updates-old")).to_be_hidden()


def test_somebody_else_was_faster(living: Console) -> None:
    page = _open(living)

    def refuse(route: Route) -> None:
        route.fulfill(status=409, json={"detail": "Roll-out 3 has been changed meanwhile."})

    page.route("**/v1/rollouts/3/promote", refuse)
    page.locator("[data-keep=promote]").click()
    page.fill("#dialog-reason", "좋다")
    page.click("#dialog-yes")
    expect(page.locator("#alert")).to_contain_text("has been changed meanwhile")
    assert living.store.rollout(3).state is RolloutState.RUNNING


def test_promoted_and_rolled_back_by_keyboard(living: Console) -> None:
    page = _open(living)
    page.locator("[data-keep=promote]").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#dialog")).to_contain_text("Promote version")
    expect(page.locator("#dialog-reason")).to_be_focused()
    page.keyboard.press("Enter")  # no reason yet
    expect(page.locator("#dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#dialog")).to_be_hidden()
    assert living.store.rollout(3).state is RolloutState.RUNNING
    expect(page.locator("[data-keep=promote]")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.type("모두가 좋아한다 ✓")
    page.keyboard.press("Enter")
    card = page.locator("#rollouts > li").first
    expect(card.locator(".state")).to_have_text("promoted")
    expect(page.locator("#announcer")).to_contain_text("is promoted")
    # Where the button was is the one that is left.
    expect(card.locator("[data-keep=rollback]")).to_be_focused()
    found = living.store.rollout(3)
    assert (found.state, found.reason) == (RolloutState.PROMOTED, "모두가 좋아한다 ✓")
    page.keyboard.press("Enter")
    page.fill("#dialog-reason", "doch nicht")
    page.click("#dialog-yes")
    expect(card.locator(".state")).to_have_text("rolled back")
    expect(page.locator("[data-keep=promote], [data-keep=rollback]")).to_have_count(0)
    assert living.store.rollout(3).state is RolloutState.ROLLED_BACK


def test_nothing_was_tried_yet(console: Console) -> None:
    page = console.open_view("updates")
    expect(page.locator("#updates-empty")).to_be_visible()
