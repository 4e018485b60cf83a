"""Request line -> route, using TensorFlow Serving's own patterns.

Source: ``model_servers/http_rest_api_util.cc`` (patterns, decoding) and ``util/net_http`` (the path that they
are matched against is the raw one, query string included).
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from serving.protos import model_pb2
from serving.server.errors import invalid_argument

_API = re.compile(r"/v1/.*", re.IGNORECASE)
_INFERENCE = re.compile(
    r"/v1/models/([^/:]+)(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?:(classify|regress|predict)",
    re.IGNORECASE | re.ASCII,
)
_STATUS = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?(?:/(metadata))?",
    re.IGNORECASE | re.ASCII,
)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#]*", re.IGNORECASE)
_MAX_INT64 = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Route:
    """The target of a request.

    Attributes:
        method: ``predict``, ``classify``, ``regress``, ``status`` or ``metadata``.
        spec: the ModelSpec of the model, its version or its label.
    """

    method: str
    spec: model_pb2.ModelSpec


def target_path(target: str) -> str:
    """The path of a request target, with its query string; the origin of an absolute URI is dropped."""
    if target.startswith("/"):
        return target
    return _ORIGIN.sub("", target, count=1) or "/"


def is_api(path: str) -> bool:
    """Whether the path belongs to the API at all; others are not found."""
    return _API.fullmatch(path) is not None


def is_for_a_model(http_method: str, path: str) -> bool:
    """Whether a request is for inference or metadata, what gRPC's PredictionService does."""
    if http_method == "POST":
        return _INFERENCE.fullmatch(path) is not None
    found = _STATUS.fullmatch(path) if http_method == "GET" else None
    return found is not None and found[4] == "metadata"


def parse(http_method: str, path: str) -> Route:
    """Parses an API request line.

    Args:
        http_method: ``GET``, ``POST``, ...
        path: as in the request, percent-encoded.

    Raises:
        StatusError: INVALID_ARGUMENT with TensorFlow Serving's message.
    """
    found = None
    if http_method == "POST":
        found = _INFERENCE.fullmatch(path)
    elif http_method == "GET":
        found = _STATUS.fullmatch(path)
    if found is None:
        raise _malformed(http_method, path)
    name, version, label, action = found.groups()
    spec = model_pb2.ModelSpec(name=_decoded(name, "model name") if name else "")
    if version:
        number = int(version) if len(version) < 20 else _MAX_INT64 + 1
        if number > _MAX_INT64:
            raise invalid_argument(f"Failed to convert version: {version} to numeric.")
        spec.version.value = number
    if label:
        spec.version_label = _decoded(label, "model version label")
    if http_method == "GET":
        if not spec.name:
            raise invalid_argument("Missing model name in request.")
        # The pattern ignores case, the comparison after it does not, as in the real server.
        return Route("metadata" if action == "metadata" else "status", spec)
    if action not in ("classify", "regress", "predict"):
        raise _malformed(http_method, path)
    return Route(action, spec)


def _malformed(http_method: str, path: str) -> Exception:
    return invalid_argument(f"Malformed request: {http_method} {path}")


def _decoded(text: str, what: str) -> str:
    try:
        # WSGI's native strings hold bytes as Latin-1.
        return unquote_to_bytes(text.encode("latin-1")).decode()
    except UnicodeError:
        raise invalid_argument(f"Failed to decode {what}:{text}") from None
