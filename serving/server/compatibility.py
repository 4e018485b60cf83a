"""What of TensorFlow Serving 2.20 works here, differs or is refused: docs/serving_compatibility.md.

    python -m serving.server.compatibility > docs/serving_compatibility.md

Flags and configuration fields are told by the tables that the server itself goes by; RPCs and routes by those below. A
test compares the page with this, and the tables with the services' descriptors.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from serving.server.flags import FLAGS
from serving.server.operations.config_fields import CONFIG_FIELDS

Support = Literal["works", "differs", "refused", "extra"]


@dataclass(frozen=True, slots=True)
class Row:
    """An RPC or a route.

    Attributes:
        name: as clients call it.
        support: whether it does here what it does in TensorFlow Serving; ``extra``: only here.
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
        "shape does not fit, the graph's message is followed by a hint in brackets; a declared default of one row "
        "applies to each row of a request (fed as it is there, so that a request of several rows can leave out an "
        "input only if the graph repeats it, and with batching none)",
    ),
    Row(
        "PredictionService.Classify",
        "works",
        "labels that are not UTF-8 are INTERNAL; unreadable answers there",
    ),
    Row("PredictionService.Regress"),
    Row(
        "PredictionService.MultiInference",
        "differs",
        "each task runs its signature in turn, where one run yields all outputs there; answers are the same; counted "
        "among the requests and in the latencies, as it is not there",
    ),
    Row("PredictionService.GetModelMetadata", "works", "signature_def"),
    Row(
        "ModelService.GetModelStatus",
        "differs",
        "LOADING carries the error of the last failed attempt, START what a version that is not whole waits for",
    ),
    Row(
        "ModelService.HandleReloadConfigRequest",
        "differs",
        "a refused configuration changes nothing, where parts of it are in force there; waits for changed models too; "
        "refused with --workers above 1; for administrators only, see --admin_access",
    ),
    Row("SessionService.SessionRun", "refused", "the public server does not offer it either"),
    Row("grpc.health.v1.Health.Check", "differs", "also for services and for models by their names; there only for ''"),
    Row("grpc.health.v1.Health.Watch", "differs", "as Check"),
    Row("grpc.reflection.v1alpha.ServerReflection", "extra"),
    Row(
        "tensorflow.ProfilerService.Profile",
        "differs",
        "for administrators only, see --admin_access; one capture at a time; written to the server's own disk",
    ),
    Row("tensorflow.ProfilerService.Terminate", "differs", "for administrators only"),
    Row("tensorflow.ProfilerService.Monitor", "refused", "UNIMPLEMENTED, as in TensorFlow's own service of 2.20"),
)

ROUTES: Sequence[Row] = (
    Row("GET /v1/models/NAME[/versions/N | /labels/L]"),
    Row("GET /v1/models/NAME[/versions/N | /labels/L]/metadata"),
    Row(
        "POST /v1/models/NAME[/versions/N | /labels/L]:predict",
        "differs",
        "inputs with declared defaults may be left out (gRPC only there); half, bfloat16 and uint16 work (501 there); "
        "invalid UTF-8 is refused; of repeated keys the last counts (the first there); nesting beyond 1,000 levels is "
        "refused (deep lists end the process there); quoted JSON is cut after 256 bytes, there near them",
    ),
    Row("POST /v1/models/NAME[/versions/N | /labels/L]:classify", "works", "answers `results`, as the binary does"),
    Row("POST /v1/models/NAME[/versions/N | /labels/L]:regress", "works", "answers `results`, as the binary does"),
    Row("GET the path of the monitoring configuration", "differs", "full precision; process figures, states "
        "of versions besides; what the runtime counts inside (`load_latency_by_stage`, `batching/*_v2`) is missing. "
        "`batching_session/*` counts every batch, however it was formed, but no warm-up and, of the batches that "
        "TensorFlow's queue forms (REST, Classify, `allowed_batch_sizes`), none that fails; `batching/*` shows the "
        "settings of this server's batching, there those of BatchFunction operations within a model; `mlmd_map` shows "
        "the key as a label (there a text, which Prometheus does not show); `model_warmup_latency` has warm-ups that a "
        "request failed as well"),
    Row("GET /healthz", "extra", "200 from when the port opens, which is after the first loads, until the server "
        "begins to stop; then 503"),
    Row("OPTIONS (CORS preflight)"),
    Row("A version that is no number, or a name that can't be decoded", "differs", "400 with a reason; without there"),
    Row("Content-Encoding: gzip", "works", "broken gzip has a message of its own"),
    Row("Accept-Encoding: gzip", "extra"),
    Row("Requests above --max_request_bytes", "differs", "413; there is no limit for plain bodies there"),
)  # fmt: skip


def render() -> str:
    """The page, Markdown."""
    lines = [
        "# Compatibility with TensorFlow Serving 2.20",
        "",
        "Made by `python -m serving.server.compatibility`; a test compares it with the server's own tables.\n"
        "*works*: as in TensorFlow Serving. *differs*: the note says how.\n"
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
