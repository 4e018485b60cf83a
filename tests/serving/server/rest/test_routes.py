"""Request lines, compared with the patterns of http_rest_api_util.cc."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.server.errors import StatusError
from serving.server.rest import routes


def parsed(method: str, path: str) -> tuple[str, str, Any]:
    route = routes.parse(method, path)
    choice = route.spec.WhichOneof("version_choice")
    version = route.spec.version.value if choice == "version" else route.spec.version_label or None
    return route.method, route.spec.name, version


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/v1/models/m:predict", ("predict", "m", None)),
        ("POST", "/v1/models/m:classify", ("classify", "m", None)),
        ("POST", "/v1/models/m:regress", ("regress", "m", None)),
        ("POST", "/v1/models/m/versions/007:predict", ("predict", "m", 7)),
        ("POST", "/v1/models/m/versions/9223372036854775807:predict", ("predict", "m", 9223372036854775807)),
        ("POST", "/v1/models/m/labels/stable:regress", ("regress", "m", "stable")),
        ("POST", "/V1/Models/M/Versions/1:predict", ("predict", "M", 1)),
        ("POST", "/v1/models/a%2Fb%20c%3A1/labels/l%25:predict", ("predict", "a/b c:1", "l%")),
        ("POST", "/v1/models/%E6%A8%A1%E5%9E%8B:predict", ("predict", "模型", None)),
        ("POST", "/v1/models/\u00e6\u00a8\u00a1:predict", ("predict", "模", None)),  # bytes as Latin-1
        ("GET", "/v1/models/m", ("status", "m", None)),
        ("GET", "/v1/models/m?x=1", ("status", "m?x=1", None)),  # the query is part of the matched text
        ("GET", "/v1/models/m/versions/3", ("status", "m", 3)),
        ("GET", "/v1/models/m/labels/l", ("status", "m", "l")),
        ("GET", "/v1/models/m/metadata", ("metadata", "m", None)),
        ("GET", "/v1/models/m/versions/3/metadata", ("metadata", "m", 3)),
        ("GET", "/v1/models/metadata", ("status", "metadata", None)),
        ("GET", "/v1/models/metadata/metadata", ("metadata", "metadata", None)),
        ("GET", "/v1/models/m/METADATA", ("status", "m", None)),
    ],
)
def test_paths(method: str, path: str, expected: tuple[str, str, Any]) -> None:
    assert parsed(method, path) == expected


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("GET", "/v1/foo", None),
        ("POST", "/v1/foo", None),
        ("POST", "/v1/models", None),
        ("POST", "/v1/models/m", None),
        ("GET", "/v1/models/m:predict", None),
        ("POST", "/v1/models/m/version/50:regress", None),
        ("POST", "/v1/models/m/versions/HELLO:regress", None),
        ("POST", "/v1/models/m/versions/١:regress", None),
        ("POST", "/v1/models/m/versions/-1:regress", None),
        ("POST", "/v1/models/m/versions/1/labels/l:regress", None),
        ("POST", "/v1/models/m:predict?x=1", None),
        ("POST", "/v1/models/m:Predict", None),
        ("POST", "/v1/models/a/b:predict", None),
        ("GET", "/v1/models/m/", None),
        ("HEAD", "/v1/models/m", None),
        ("PUT", "/v1/models/m:predict", None),
        ("OPTIONS", "/v1/models/m:predict", None),
        ("GET", "/v1/models", "Missing model name in request."),
        ("GET", "/v1/models/versions/3", "Missing model name in request."),
        (
            "POST",
            "/v1/models/m/versions/18446744073709551615:regress",
            "Failed to convert version: 18446744073709551615 to numeric.",
        ),
        (
            "GET",
            "/v1/models/m/versions/9223372036854775808",
            "Failed to convert version: 9223372036854775808 to numeric.",
        ),
        ("POST", "/v1/models/%FF:predict", "Failed to decode model name:%FF"),
        ("GET", "/v1/models/m/labels/%FF", "Failed to decode model version label:%FF"),
    ],
)
def test_invalid_paths(method: str, path: str, message: str | None) -> None:
    with pytest.raises(StatusError) as caught:
        routes.parse(method, path)
    assert str(caught.value) == f"INVALID_ARGUMENT: {message or f'Malformed request: {method} {path}'}"


def test_a_huge_version_is_refused_quickly() -> None:
    with pytest.raises(StatusError, match="Failed to convert version"):
        routes.parse("GET", "/v1/models/m/versions/" + "9" * 60_000)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/v1/models/m", "/v1/models/m"),
        ("//v1/models", "//v1/models"),
        ("http://host:8501/v1/models/m", "/v1/models/m"),
        ("HTTP://[::1]:1", "/"),
        ("*", "*"),
        ("host:80", "host:80"),
    ],
)
def test_absolute_targets(target: str, path: str) -> None:
    assert routes.target_path(target) == path


def test_is_api() -> None:
    assert routes.is_api("/v1/models")
    assert routes.is_api("/V1/")
    assert routes.is_api("/v1/x?y")
    assert not routes.is_api("/v1")
    assert not routes.is_api("/")
    assert not routes.is_api("/v2/models/m")


@given(st.sampled_from(["GET", "POST", "PUT"]), st.text(st.characters(max_codepoint=255), max_size=40))
def test_any_path_is_parsed_or_refused(method: str, tail: str) -> None:
    try:
        outcome = routes.parse(method, "/v1/models/" + tail).method
    except StatusError as error:
        outcome = error.code.name
    assert outcome in ("predict", "classify", "regress", "status", "metadata", "INVALID_ARGUMENT")
