"""The console in a headless Chromium, on a service of its own."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from serving.service.api.access.keys import add_key
from serving.service.store import Store, open_store
from serving.service.types import Event, Item, User
from tests.serving.service.api.conftest import database, shared, sqlite_stores, stores  # noqa: F401
from tests.serving.service.api.live import Live
from tests.serving.service.console.living import fill_answers, fill_rollouts

NOON = 1_796_040_000
_TITLES = (
    ("en", "The Space Ship", "Sci-Fi"),
    ("zh", "太空飞船", "Sci-Fi"),
    ("es", "Carta de amor", "Romance"),
    ("ar", "سفينة فضاء", "Sci-Fi"),
    ("ko", "연애 편지", "Romance"),
    ("en", "A Love Letter", "Romance"),
    ("ja", "宇宙船の夜", "Sci-Fi"),
    ("en", "Moon & <b>Sun</b>", "Sci-Fi"),
    ("th", "จดหมายรัก", "Romance"),
    ("en", "Old Comedy", "Comedy"),
    ("de", "Die Raumstation", "Sci-Fi"),
    ("fr", "Lettre d'amour", "Romance"),
    ("en", "New Comedy", "Comedy"),
)


@dataclass
class Console:
    """A service, and pages of its console.

    Attributes:
        url: Of the page, without a key.
        keys: Role -> key.
        store: Open.
        new_page: Opens an empty page, whose errors fail the test.
    """

    url: str
    keys: dict[str, str]
    store: Store
    new_page: Callable[..., Page]

    def open(self, person: str = "ana", **settings: Any) -> Page:
        """The page, for a person."""
        page = self.new_page(**settings)
        page.goto(f"{self.url}#key={self.keys['admin']}")
        expect(page.locator("html")).to_have_attribute("data-ready", "true")
        choose(page, person)
        return page

    def open_view(self, view: str, page: Page | None = None, **settings: Any) -> Page:
        """A view of the page."""
        page = page or self.new_page(**settings)
        page.goto(f"{self.url}#key={self.keys['admin']}")
        expect(page.locator("html")).to_have_attribute("data-ready", "true")
        page.locator(f"#nav a[href='#{view}']").click()
        expect(page.locator(f"#view-{view}")).to_be_visible()
        return page


def choose(page: Page, person: str) -> None:
    """Types a person's id."""
    page.fill("#person", person)
    page.press("#person", "Enter")
    expect(page.locator("#results-title")).to_contain_text(person)
    expect(page.locator("#items li").first).to_be_visible()
    # The list may be the one from before, for the same person; clicks on it would not count.
    expect(page.locator("#items")).not_to_have_attribute("aria-busy", "true")


def titles(page: Page) -> list[str]:
    """Of the answer."""
    return page.locator("#items .name").all_inner_texts()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        # A sandbox needs a user other than root.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


Served = tuple[str, dict[str, str], Store]


@contextmanager
def _serving(path: Path, fill: Callable[[Store], None]) -> Iterator[Served]:
    with open_store(f"sqlite:///{path}") as store:
        keys = {role: add_key(store, role, role) for role in ("admin", "app")}
        fill(store)
        options = ("--key_limit", "1000000/minute")
        with Live(f"sqlite:///{path}", *options, module="tests.serving.service.console.fake_server") as live:
            yield f"http://127.0.0.1:{live.port}/console", keys, store


def _fill(store: Store) -> None:
    store.put_items(
        [
            Item(item_id=f"i{number:02}", language=language, title=title, categories=[category])
            for number, (language, title, category) in enumerate(_TITLES)
        ]
    )
    for user_id, language in (("ana", "es"), ("anton", "de"), ("민수/1", "ko")):
        store.put_user(User(user_id=user_id, languages=[language]))
    store.append_events(
        [
            Event(event_id="1", event="rating", timestamp=NOON, user_id="ana", item_id="i05"),
            Event(event_id="2", event="purchase", timestamp=NOON + 60, user_id="ana", item_id="i02"),
            Event(event_id="3", event="click", timestamp=NOON - 60, user_id="민수/1", item_id="i00"),
        ]
    )


def _fill_with_a_past(store: Store) -> None:
    now = time.time()
    fill_answers(store, now)
    fill_rollouts(store, now)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with _serving(tmp_path_factory.mktemp("console") / "store.db", _fill) as served:
        yield served


@pytest.fixture(scope="module")
def living_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with _serving(tmp_path_factory.mktemp("living") / "store.db", _fill_with_a_past) as served:
        yield served


@pytest.fixture
def console(chromium: Browser, service: Served) -> Iterator[Console]:
    """On a service that is new."""
    with _console(chromium, service) as console:
        yield console


@pytest.fixture
def living(chromium: Browser, living_service: Served) -> Iterator[Console]:
    """On a service with a past."""
    with _console(chromium, living_service) as console:
        yield console


@contextmanager
def _console(chromium: Browser, served: Served) -> Iterator[Console]:
    contexts = []
    mistakes: list[str] = []

    def new_page(**settings: Any) -> Page:
        context = chromium.new_context(**({"locale": "en-US", "reduced_motion": "reduce"} | settings))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        # Also what the policy for content forbids; a request that is refused is for the test to expect.
        page.on(
            "console",
            lambda message: (
                mistakes.append(message.text)
                if message.type == "error" and "Failed to load resource" not in message.text
                else None
            ),
        )
        return page

    expect.set_options(timeout=15_000)
    yield Console(*served, new_page)
    for context in contexts:
        context.close()
    assert not mistakes
