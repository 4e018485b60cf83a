"""The compatibility page matches the server."""

from pathlib import Path

from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from serving.server.compatibility import ROUTES, RPCS, render
from serving.server.operations.config_fields import CONFIG_FIELDS
from serving.server.options import FLAGS

_PAGE = Path(__file__).resolve().parents[3] / "docs" / "serving_compatibility.md"


def test_the_page_is_up_to_date() -> None:
    assert _PAGE.read_text(encoding="utf-8") == render(), (
        "run: python -m serving.server.compatibility > docs/serving_compatibility.md"
    )


def test_every_rpc_is_listed() -> None:
    listed = {row.name for row in RPCS}
    for service, servicer in (
        ("PredictionService", prediction_service_pb2_grpc.PredictionServiceServicer),
        ("ModelService", model_service_pb2_grpc.ModelServiceServicer),
    ):
        methods = {f"{service}.{name}" for name in vars(servicer) if name[0].isupper()}
        assert methods
        assert methods <= listed


def test_differing_and_refused_entries_have_a_note() -> None:
    for row in (*RPCS, *ROUTES):
        assert row.note or row.support in ("works", "extra"), row.name
    for flag in FLAGS:
        assert flag.note or flag.support == "works", flag.name
    for field in CONFIG_FIELDS:
        assert field.note or field.support == "works", field.name
