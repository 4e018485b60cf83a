"""Text encoder tuning in transfer, mode by mode: quality on both markets, parameters, seconds.

    python -m trainer.task fit --config configs/zero_shot.yaml --run-dir runs/zero_shot
    python -m benchmarks.quality.transfer --from runs/zero_shot

Each mode is a run of `finetune` below runs/bench/transfer/, reused if it exists; one with other settings is
refused. Writes runs/bench/transfer.json and .md.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.harness.runner import Options, Result, run
from benchmarks.harness.table import Table
from serving.arguments import argument
from trainer.config.loading import load_config
from trainer.runs import Run
from trainer.training.finetune import RECORD, finetune, finetune_config

# After `trainer`, which selects the Keras version.
from tf_keras import backend as keras_backend  # isort: skip

_MODES = ("frozen", "adapters", "lora", "last", "full")
_METRICS = ("recall@10", "ndcg@10")
_COLUMNS = (
    *("variant", "target Recall@10", "NDCG@10", "source Recall@10", "forgotten"),
    *("parameters trained", "of the encoder", "kept share", "s"),
)


@dataclass(frozen=True)
class _Options(Options):
    source: Path = argument("--from", type=Path, required=True, metavar="DIR", help="a finished run")
    config: Path = argument("--config", type=Path, default=Path("configs/finetune.yaml"), metavar="YAML")
    modes: Sequence[str] = argument(
        "--modes", nargs="+", choices=_MODES, default=_MODES, help="text.tuning modes; default: all"
    )
    overrides: list[str] = argument("--set", action="append", default=[], metavar="KEY=VALUE")
    name: str = argument("--name", default="", help="distinguishes runs of the same mode with other settings")


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, evaluates and writes the results; returns the exit code."""
    return run("quality.transfer", __doc__, _Options, _measure, _page, arguments, packages=("tensorflow",))


def _measure(options: _Options, console: Console) -> Result:
    folder = options.output.parent / "transfer"
    source = Run.open(options.source)
    for mode in options.modes:
        name = f"{mode} {options.name}".strip()
        console.print(name, highlight=False)
        directory = folder / name.replace(" ", "-")
        config = load_config(options.config, [*options.overrides, f"text.tuning.mode={mode}"])
        if (directory / RECORD).exists():
            # Refuses a run with other settings, or from another source.
            Run.create(directory, finetune_config(config, source))
        else:
            finetune(config, source, directory)
            keras_backend.clear_session()
    found = {path.parent.name: Run.open(path.parent).read(RECORD) for path in sorted(folder.glob(f"*/{RECORD}"))}
    order = {mode: place for place, mode in enumerate(_MODES)}
    names = sorted(found, key=lambda name: (order.get(found[name]["mode"], len(order)), name))
    return {"rows": [{"name": name.replace("-", " "), **found[name]} for name in names]}


def _page(result: Result) -> list[Table | str]:
    """The rows as a table; the "before" figures are the same for all of them."""
    target, source = (result["rows"][0][role]["before"] for role in ("target", "source"))
    before = [f"{target[name]:.4f}" if target else "-" for name in _METRICS]
    lines = [["before", *before, f"{source['recall@10']:.4f}", *[""] * 5]]
    for row in result["rows"]:
        target, source, encoder = row["target"]["after"], row["source"]["after"], row["encoder"]
        lines.append(
            [
                row["name"],
                *(f"{target[name]:.4f}" for name in _METRICS),
                f"{source['recall@10']:.4f}",
                f"{100 * row['forgetting']['recall@10']:+.1f} %",
                f"{encoder['trained']:,}",
                f"{100 * encoder['share']:.2f} %",
                f"{row['share']:.1f}",
                f"{row['seconds']:.0f}",
            ]
        )
    return [Table("Quality on both markets", _COLUMNS, lines)]


if __name__ == "__main__":
    sys.exit(main())
