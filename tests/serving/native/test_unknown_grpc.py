"""With a gRPC library that the front can't use, Python answers, unless the front is asked for."""

import logging

import pytest

from serving.native.library import why_not
from serving.server import assembly, flags
from serving.server.errors import StatusError
from serving.server.operations.config_files import session_bundle_config

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


class _Unusable:
    def __init__(self, **_: object) -> None:
        raise OSError("gRPC 1.71.0 does not support externally accepted connections; known to work: 1.51")


@pytest.mark.parametrize("wanted", ["auto", "on"])
def test_a_library_without_the_entry(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wanted: str
) -> None:
    monkeypatch.setattr(assembly, "Front", _Unusable)
    options = flags.parse(["--model_base_path=/m", "--enable_batching", f"--native_predict={wanted}"])
    bundle = session_bundle_config(options)
    caplog.set_level(logging.WARNING)
    if wanted == "on":
        with pytest.raises(StatusError, match=r"--native_predict=on: gRPC 1\.71\.0 does not support"):
            assembly.make_front(options, bundle, None)
    else:
        assert assembly.make_front(options, bundle, None) is None
        assert "Predict is answered in Python: gRPC 1.71.0" in caplog.text
