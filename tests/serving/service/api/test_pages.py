"""Pages for browsers, the description of the interface, and the script for shops' pages."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.serving.service.api.inside import Inside

_DRIVER = Path(__file__).with_name("drive_snippet.js")


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_pages_need_no_other_host(shared: Inside, path: str) -> None:
    page = shared.call("GET", path, key=None)
    assert page.headers["content-type"].startswith("text/html")
    assert "//" not in page.text.replace("</", "")
    assert not re.search(r"<script[^>]*>[^<]", page.text)  # the policy forbids scripts in pages
    links = re.findall(r'(?:src|href|spec-url)="([^"]+)"', page.text)
    assert len(links) >= 3
    for link in links:
        assert shared.call("GET", f"/{link}", key=None).status_code == 200, link


def test_assets_are_those_and_no_others(shared: Inside) -> None:
    assert len(shared.call("GET", "/docs/assets/swagger-ui-bundle.js", key=None).content) > 1_000_000
    for name in ("x.js", "..%2F__init__.py", "..%2f..%2fetc%2fpasswd", "%2e%2e/core.py"):
        assert shared.call("GET", f"/docs/assets/{name}", key=None).status_code == 404


def test_the_description_is_complete(shared: Inside) -> None:
    schema = shared.call("GET", "/openapi.json", key=None).json()
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["description"], path
            assert "default" in operation["responses"]
            assert bool(operation.get("security")) == path.startswith("/v1/")
            for parameter in operation.get("parameters", []):
                assert parameter["description"], path
    for name in (
        "RecommendationForm",
        "SearchForm",
        "RecommendationResponse",
        "RecommendedItem",
        "Answer",
        "Line",
        "User",
    ):
        for field, form in schema["components"]["schemas"][name]["properties"].items():
            assert form.get("description"), (name, field)
    text = json.dumps(schema)
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert references <= set(schema["components"]["schemas"])
    body = schema["paths"]["/v1/events"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "application/x-ndjson"}


def test_the_script_is_served_and_small(shared: Inside) -> None:
    response = shared.call("GET", "/v1/babelrec.js", key=None)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/javascript")
    assert len(response.content) <= 3_000
    for forbidden in ("localStorage", "sessionStorage", "cookie", "indexedDB", "eval", "innerHTML"):
        assert forbidden not in response.text


@pytest.fixture(scope="module")
def sent(shared: Inside, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the script sent in a page that `drive_snippet.js` plays."""
    node = shutil.which("node") or shutil.which("nodejs")
    if node is None:
        pytest.skip("no Node.js on this machine")
    script = tmp_path_factory.mktemp("snippet") / "babelrec.js"
    script.write_bytes(shared.call("GET", "/v1/babelrec.js", key=None).content)
    done = subprocess.run([node, str(_DRIVER), str(script)], capture_output=True, text=True, timeout=60, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_script_waits_for_consent(sent: dict[str, Any]) -> None:
    assert sent["before consent"] == []
    assert sent["after withdrawal"] == []
    assert sent["listeners before consent"] == 0


def test_the_script_sends_views_and_clicks(sent: dict[str, Any]) -> None:
    (request,) = sent["with consent"]
    assert request["url"] == "https://recommend.example/v1/events"
    assert request["type"] == "text/plain"
    events = request["body"]["events"]
    assert [each["event"] for each in events] == ["impression", "view", "click"]
    assert events[0]["item_id"] == "急須"
    assert (events[0]["recommendation_id"], events[0]["position"], events[0]["session_id"]) == ("r-1", 2, "visit")
    assert "position" not in events[1]
    assert len({each["event_id"] for each in events}) == 3
    assert sent["many"] == [50, 50, 20]


def test_the_service_takes_what_the_script_sends(shared: Inside, sent: dict[str, Any]) -> None:
    body = sent["with consent"][0]["body"] | {"token": shared.token("alice", "visit")}
    headers = {"Content-Type": "text/plain", "Origin": "https://shop.example"}
    answer = shared.call("POST", "/v1/events", json.dumps(body), key=None, headers=headers).json()
    assert answer["accepted"] == 3, answer
