"""docs/tutorial_shop.md: its code runs unchanged and does what the page promises."""

import html
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.harness.service import ServiceProcess, free_port
from serving.service.api.access.keys import add_key
from serving.service.importing import import_dataset
from serving.service.store import open_store
from tests.serving.live import START_SECONDS, LiveServer, wait_for
from trainer.export.export import export
from trainer.runs import Run

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial_shop.md"
_LINK = re.compile(r'<li><a href="([^"]+)">([^<]*)</a> <small>(\w+)</small>')
pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def models(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the signatures for the service; every item is a candidate."""
    folder = tmp_path_factory.mktemp("models") / "recommender"
    export(Run.open(tiny_run.path, ["export.fresh_items=true", "export.candidates=100"]), folder)
    return folder


@pytest.fixture(scope="module")
def environment(tiny_run: Run, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the page says to set, with the service and its model running."""
    folder = tmp_path_factory.mktemp("service")
    url = f"sqlite:///{folder / 'store.db'}"
    with open_store(url) as store:
        import_dataset(tiny_run.dataset().path, store)
        keys = {role: add_key(store, role, role) for role in ("app", "admin")}
    # Its warm-up runs all signatures in all forms; three are used here.
    with LiveServer(models, "--enable_model_warmup=false") as server:
        server.wait_for_state(1, "AVAILABLE")
        # A busy machine must not make answers degraded.
        flags = ["--deadline_ms=120000", "--request_timeout_seconds=300"]
        with ServiceProcess(url, server.address, folder / "log", flags) as service:
            service.wait(model=True, seconds=START_SECONDS)
            _warm_up(service.url, keys["app"])
            yield {
                "BABELREC_URL": service.url,
                "BABELREC_APP_KEY": keys["app"],
                "BABELREC_ADMIN_KEY": keys["admin"],
            }


@pytest.fixture(scope="module")
def shop(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the page's application."""
    folder = tmp_path_factory.mktemp("shop")
    blocks = re.findall(r"^```python\n(.*?)^```$", _PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (folder / "shop.py").write_text("\n\n".join(blocks), "utf-8")
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "shop:app", "--port", str(port)]
    process = subprocess.Popen(command, cwd=folder, env=os.environ | environment)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: _answers(url), START_SECONDS, "the shop answers")
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _warm_up(url: str, key: str) -> None:
    """Asks once as the shop will, with more patience."""
    for path, body in (("recommendations", {}), ("search", {"query": "moon"})):
        answer = httpx.post(
            f"{url}/v1/{path}", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=START_SECONDS
        )
        assert answer.json()["degraded"] is False, answer.text


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=60).status_code == 200
    except httpx.TransportError:
        return False


class _Browser:
    """Keeps cookies and follows redirects."""

    def __init__(self, shop: str) -> None:
        self._client = httpx.Client(base_url=shop, follow_redirects=True, timeout=60)

    def open(self, path: str) -> str:
        return self._text(self._client.get(path))

    def submit(self, path: str, **fields: str) -> str:
        return self._text(self._client.post(path, data=fields))

    @staticmethod
    def _text(response: httpx.Response) -> str:
        assert response.status_code == 200, response.text
        return response.text


def _listed(page: str) -> dict[str, tuple[str, str]]:
    """Title -> address and source of each product, in their order."""
    return {html.unescape(title): (html.unescape(address), source) for address, title, source in _LINK.findall(page)}


def test_a_click_changes_the_list_and_log_in_takes_it_along(shop: str) -> None:
    browser, other = _Browser(shop), _Browser(shop)
    first = _listed(browser.open("/"))
    assert len(first) == 10
    assert {source for _, source in first.values()} == {"model"}

    title, (address, _) = next(iter(first.items()))
    product = browser.open(address)
    assert f"<h1>{html.escape(title)}</h1>" in product
    assert len(_listed(product)) == 5
    assert title not in _listed(product)
    second = _listed(browser.open("/"))
    assert title not in second
    assert list(second) != list(first)

    assert list(_listed(browser.submit("/login", user="สมชาย"))) == list(second)
    assert list(_listed(other.open("/"))) == list(first)
    assert list(_listed(other.submit("/login", user="สมชาย"))) == list(second)


def test_a_new_product_is_found(shop: str) -> None:
    browser = _Browser(shop)
    page = browser.submit("/products", title="Moon base & friends", category="Sci-Fi")
    # What the page says of reloading.
    deadline = time.monotonic() + START_SECONDS
    while "Moon base & friends" not in _listed(page):
        assert time.monotonic() < deadline, page
        page = browser.open("/search?q=moon+base")
    assert next(iter(_listed(page))) == "Moon base & friends"
    assert _listed(page)["Moon base & friends"][1] == "fresh"
    assert "<h1>Moon base &amp; friends</h1>" in browser.open(_listed(page)["Moon base & friends"][0])


def test_a_search_in_another_language_finds_products(shop: str) -> None:
    assert len(_listed(_Browser(shop).open("/search?q=우주선"))) == 10


def test_a_person_who_is_forgotten_is_nobody_known(shop: str) -> None:
    browser = _Browser(shop)
    unknown = list(_listed(browser.open("/")))
    browser.submit("/login", user="大輔")
    browser.open(_listed(browser.open("/"))[unknown[0]][0])
    assert list(_listed(browser.open("/"))) != unknown
    assert list(_listed(browser.submit("/forget"))) == unknown
    browser.submit("/login", user="大輔")
    wait_for(lambda: list(_listed(browser.open("/"))) == unknown, START_SECONDS, "the clicks are forgotten")
