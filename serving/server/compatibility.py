"""Which parts of TensorFlow Serving 2.20 work here, differ or are refused: docs/serving_compatibility.md.

    python -m serving.server.compatibility > docs/serving_compatibility.md

Flags and configuration fields come from the tables that the server itself uses; RPCs and routes from those below. A
test compares the page with this module, and the tables with the services' descriptors.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from serving.server.operations.config_fields import CONFIG_FIELDS
from serving.server.options import FLAGS

Support = Literal["works", "differs", "refused", "extra"]


@dataclass(frozen=True, slots=True)
class Row:
    """An RPC or a route.

    Attributes:
        name: as clients call it.
        support: whether it behaves as in TensorFlow Serving; ``extra``: only here.
        note: how it differs, or why it is refused.
    """

    name: str
    support: Support = "works"
    note: str = ""


RPCS: Sequence[Row] = (
    Row(
        "PredictionService.Predict",
        "works",
        "versions, labels, output_filter (outputs that it leaves out may be computed: serving.md, Warm-up); when a "
        "shape does not match, the graph's message is followed by a hint in brackets; a declared default of one row "
        "applies to each row of a request (in TensorFlow Serving it is fed as is, so a request of several rows can "
        "leave out an input only if the graph repeats it, and with batching none)",
    ),
    Row(
        "PredictionService.Classify",
        "works",
        "labels that are not UTF-8 are INTERNAL; TensorFlow Serving sends unreadable answers",
    ),
    Row("PredictionService.Regress"),
    Row(
        "PredictionService.MultiInference",
        "differs",
        "each task runs its signature in turn, where TensorFlow Serving gets all outputs from one run; answers are the "
        "same; counted in the request counts and latencies, unlike in TensorFlow Serving",
    ),
    Row("PredictionService.GetModelMetadata", "works", "signature_def"),
    Row(
        "ModelService.GetModelStatus",
        "differs",
        "LOADING carries the error of the last failed attempt, START what an incomplete version waits for",
    ),
    Row(
        "ModelService.HandleReloadConfigRequest",
        "differs",
        "a refused configuration changes nothing, while TensorFlow Serving applies parts of it; waits for changed "
        "models too; refused with --workers above 1; for administrators only, see --admin_access",
    ),
    Row("SessionService.SessionRun", "refused", "the public server does not offer it either"),
    Row(
        "grpc.health.v1.Health.Check",
        "differs",
        "also for services and for models by name; TensorFlow Serving only for ''",
    ),
    Row("grpc.health.v1.Health.Watch", "differs", "as Check"),
    Row("grpc.reflection.v1alpha.ServerReflection", "extra"),
    Row(
        "tensorflow.ProfilerService.Profile",
        "differs",
        "for administrators only, see --admin_access; one capture at a time; written to the server's disk",
    ),
    Row("tensorflow.ProfilerService.Terminate", "differs", "for administrators only"),
    Row("tensorflow.ProfilerService.Monitor", "refused", "UNIMPLEMENTED, as in TensorFlow 2.20's own service"),
)

ROUTES: Sequence[Row] = (
    Row("GET /v1/models/NAME[/versions/N | /labels/L]"),
    Row("GET /v1/models/NAME[/versions/N | /labels/L]/metadata"),
    Row(
        "POST /v1/models/NAME[/versions/N | /labels/L]:predict",
        "differs",
        "inputs with declared defaults may be left out (TensorFlow Serving: gRPC only); half, bfloat16 and uint16 work "
        "(TensorFlow Serving: 501); invalid UTF-8 is refused; of repeated keys the last counts (TensorFlow Serving: "
        "the first); nesting beyond 1,000 levels is refused (deep lists crash TensorFlow Serving); quoted JSON is cut "
        "after 256 bytes (TensorFlow Serving: roughly)",
    ),
    Row("POST /v1/models/NAME[/versions/N | /labels/L]:classify", "works", "answers `results`, as the binary does"),
    Row("POST /v1/models/NAME[/versions/N | /labels/L]:regress", "works", "answers `results`, as the binary does"),
    Row("GET the path of the monitoring configuration", "differs", "full precision; also process metrics and "
        "states of versions; the runtime's internal metrics (`load_latency_by_stage`, `batching/*_v2`) are missing. "
        "`batching_session/*` counts every batch, however it was formed, but no warm-up and, of the batches that "
        "TensorFlow's queue forms (REST, Classify, `allowed_batch_sizes`), none that fails; `batching/*` shows the "
        "settings of this server's batching (TensorFlow Serving: those of BatchFunction operations in a model); "
        "`mlmd_map` shows the key as a label (TensorFlow Serving: as text, which Prometheus does not show); "
        "`model_warmup_latency` includes warm-ups in which a request failed"),
    Row("GET /healthz", "extra", "200 once the port opens (after the first loads) until the server "
        "begins to stop; then 503"),
    Row("OPTIONS (CORS preflight)"),
    Row("A version that is not a number, or a name that can't be decoded", "differs",
        "400 with a reason; TensorFlow Serving gives none"),
    Row("Content-Encoding: gzip", "works", "broken gzip has its own message"),
    Row("Accept-Encoding: gzip", "extra"),
    Row("Requests above --max_request_bytes", "differs", "413; TensorFlow Serving does not limit uncompressed bodies"),
)  # fmt: skip


def render() -> str:
    """The page, Markdown."""
    lines = [
        "# Compatibility with TensorFlow Serving 2.20",
        "",
        "Generated by `python -m serving.server.compatibility`; a test compares it with the server's own\n"
        "tables. *works*: as in TensorFlow Serving. *differs*: the note says how.\n"
        "*refused*: an error says why. *extra*: only here.",
        "",
    ]
    lines += _table("RPCs", "RPC", ((row.name, row.support, row.note) for row in RPCS))
    lines += _table("REST", "route", ((row.name, row.support, row.note) for row in ROUTES))
    lines += _table(
        "Flags",
        "flag",
        ((f"--{flag.name}", "extra" if flag.ours else flag.support, flag.note or flag.help) for flag in FLAGS),
    )
    lines += _table(
        "Configuration fields",
        "field",
        ((f"{field.message}.{field.name}", field.support, field.note) for field in CONFIG_FIELDS),
    )
    return "\n".join(lines)


def _table(title: str, what: str, rows: Iterable[tuple[str, str, str]]) -> list[str]:
    lines = [f"## {title}", "", f"| {what} | | |", "|---|---|---|"]
    lines += [f"| `{name}` | {support} | {note.replace('|', chr(92) + '|')} |" for name, support, note in rows]
    return [*lines, ""]


if __name__ == "__main__":
    sys.stdout.write(render())
