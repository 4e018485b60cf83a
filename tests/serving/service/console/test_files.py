"""The console's files: the same texts in all languages, nothing from other hosts, nothing that its policy forbids."""

import json
import re
from pathlib import Path

import pytest

import serving.service.console
from tests.serving.service.api.inside import Inside

_FOLDER = Path(serving.service.console.__path__[0])
_LANGUAGES = {path.stem: json.loads(path.read_text("utf-8")) for path in (_FOLDER / "languages").glob("*.json")}
# The forms of plurals by CLDR.
_FORMS = {
    "en": {"one", "other"},
    "zh": {"other"},
    "es": {"one", "many", "other"},
    "ar": {"zero", "one", "two", "few", "many", "other"},
    "ko": {"other"},
}


def _names(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


@pytest.mark.parametrize("language", sorted(_FORMS))
def test_all_texts_are_there_in_every_language(language: str) -> None:
    texts, english = _LANGUAGES[language], _LANGUAGES["en"]
    assert set(_LANGUAGES) == set(_FORMS)
    assert list(texts) == list(english)
    for key, found in texts.items():
        expected = english[key]
        assert isinstance(found, dict) == isinstance(expected, dict), key
        if isinstance(found, dict):
            assert set(found) == _FORMS[language], key
            assert _names(found["other"]) == _names(expected["other"]), key
        else:
            assert _names(found) == _names(expected), key
            assert found.strip(), key


def test_scripts_and_page_use_texts_that_there_are() -> None:
    used = set()
    for path in _FOLDER.iterdir():
        if path.suffix in (".js", ".html"):
            text = path.read_text("utf-8")
            used |= set(re.findall(r'\bt\(\s*"([\w.]+)"', text))
            used |= set(re.findall(r'data-(?:text|placeholder|label)="([\w.]+)"', text))
    assert used <= set(_LANGUAGES["en"])
    assert len(used) > 50


def test_nothing_comes_from_elsewhere(shared: Inside) -> None:
    page = shared.call("GET", "/console", key=None)
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    for path in _FOLDER.rglob("*.*"):
        if "__pycache__" in path.parts or path.suffix in (".py", ".html"):
            continue
        name = path.relative_to(_FOLDER)
        answer = shared.call("GET", f"/console/{name}", key=None)
        assert (answer.status_code, answer.content) == (200, path.read_bytes()), name
        addresses = re.findall(r"https?://[^\s\"']+", answer.text)
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, name
    assert not re.search(r"<script[^>]*>[^<]|<style|\son\w+=|\sstyle=", page.text)


@pytest.mark.parametrize("name", ["", "__init__.py", "../options.py", "..%2foptions.py", "index.html", "languages/"])
def test_no_other_file_is_served(shared: Inside, name: str) -> None:
    assert shared.call("GET", f"/console/{name}", key=None).status_code == 404
