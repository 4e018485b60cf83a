"""The tables of docs/evaluation.md: protocols and ranking metrics, from their registries.

``python -m trainer.evaluation.reference`` prints them.
"""

import inspect
import sys

from trainer.evaluation.metrics.registry import METRICS
from trainer.evaluation.protocols.registry import PROTOCOLS


def reference_markdown() -> str:
    """One table of the protocols of `evaluate`, and one of the metrics of full-catalogue rankings."""
    parts = [
        "### Protocols of `evaluate`",
        "",
        "| `--protocol` | question | what it ranks | data |",
        "|---|---|---|---|",
    ]
    parts += [
        f"| `{protocol.name}` | {protocol.title} | {protocol.help} | {protocol.target.value} |"
        for protocol in PROTOCOLS.values()
    ]
    parts += [
        "",
        "### Metrics of full-catalogue rankings",
        "",
        "| name | label | meaning | module |",
        "|---|---|---|---|",
    ]
    for metric in METRICS.values():
        function = metric.per_user or metric.total
        module = inspect.getmodule(function)
        assert module is not None
        parts.append(f"| `{metric.name}@k` | {metric.label} | {metric.note} | `{module.__name__}` |")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference_markdown())
