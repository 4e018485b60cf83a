"""The secret that signs tokens."""

import concurrent.futures
from pathlib import Path

import pytest

from serving.service.api.access.secret import token_secret
from serving.service.errors import InvalidRequestError
from tests.serving.service.api.inside import EmptyStore, Inside, problem


def test_it_is_made_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        found = set(pool.map(lambda _: token_secret(url, {}), range(4)))
    assert len(found) == 1
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_bytes()) == 64


def test_the_environment_is_first(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    assert token_secret(url, {"BABELREC_TOKEN_SECRET": "x" * 32}) == b"x" * 32
    assert not list(tmp_path.iterdir())
    with pytest.raises(InvalidRequestError, match="32"):
        token_secret(url, {"BABELREC_TOKEN_SECRET": "x" * 31})


def test_replicas_need_the_variable(empty_store: EmptyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert token_secret("postgresql://user:password@host/database", {}) is None
    with Inside(*empty_store) as service:
        monkeypatch.setattr(service.context.tokens, "_secret", None)
        assert "BABELREC_TOKEN_SECRET" in problem(service.call("POST", "/v1/tokens", {}, key="app"), 503)
        problem(service.call("POST", "/v1/recommendations", {}, key="eyJhbGciOiJub25lIn0.e30."), 401)
