"""Text encoder tuning in transfer, mode by mode: quality on both markets, parameters, seconds.

    python -m trainer.task fit --config configs/zero_shot.yaml --run-dir runs/zero_shot
    python -m benchmarks.transfer --from runs/zero_shot

Each mode is a run of `finetune` below runs/bench/transfer/, reused if it exists; one with other settings is
refused. Writes runs/bench/transfer.json and .md.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.environment import environment, write_json
from trainer.config.loading import load_config
from trainer.errors import BabelrecError
from trainer.files import write_text
from trainer.runs import Run
from trainer.training.finetune import RECORD, finetune, finetune_config

# After `trainer`, which selects the Keras version.
from tf_keras import backend as keras_backend  # isort: skip

_REPOSITORY = Path(__file__).resolve().parent.parent
_OUTPUT = _REPOSITORY / "runs" / "bench"
_MODES = ("frozen", "adapters", "lora", "last", "full")
_METRICS = ("recall@10", "ndcg@10")


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table; the "before" figures are the same for all of them."""
    lines = [
        "| variant | target Recall@10 | NDCG@10 | source Recall@10 | forgotten | parameters trained | of the encoder | "
        "kept share | s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    first = rows[0]
    before = [first[role]["before"] for role in ("target", "source")]
    cells = [f"{before[0][name]:.4f}" if before[0] else "-" for name in _METRICS]
    lines.append(f"| before | {cells[0]} | {cells[1]} | {before[1]['recall@10']:.4f} | | | | | |")
    for row in rows:
        target, source, encoder = row["target"]["after"], row["source"]["after"], row["encoder"]
        lost = f"{100 * row['forgetting']['recall@10']:+.1f} %"
        lines.append(
            f"| {row['name']} | {target['recall@10']:.4f} | {target['ndcg@10']:.4f} | {source['recall@10']:.4f} "
            f"| {lost} | {encoder['trained']:,} | {100 * encoder['share']:.2f} % "
            f"| {row['share']:.1f} | {row['seconds']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, evaluates and writes the results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="source", type=Path, required=True, metavar="DIR", help="a finished run")
    parser.add_argument("--config", type=Path, default=_REPOSITORY / "configs" / "finetune.yaml", metavar="YAML")
    parser.add_argument("--modes", nargs="+", choices=_MODES, default=_MODES, help="text.tuning modes; default: all")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--name", default="", help="distinguishes runs of the same mode with other settings")
    parser.add_argument("--output", type=Path, default=_OUTPUT, metavar="DIR")
    options = parser.parse_args(arguments)
    folder = options.output / "transfer"
    try:
        source = Run.open(options.source)
        for mode in options.modes:
            name = f"{mode} {options.name}".strip()
            directory = folder / name.replace(" ", "-")
            config = load_config(options.config, [*options.overrides, f"text.tuning.mode={mode}"])
            if (directory / RECORD).exists():
                # Refuses a run with other settings, or from another source.
                Run.create(directory, finetune_config(config, source))
            else:
                finetune(config, source, directory)
                keras_backend.clear_session()
    except BabelrecError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    found = {path.parent.name: Run.open(path.parent).read(RECORD) for path in sorted(folder.glob(f"*/{RECORD}"))}
    order = {mode: place for place, mode in enumerate(_MODES)}
    names = sorted(found, key=lambda name: (order.get(found[name]["mode"], len(order)), name))
    rows = [{"name": name.replace("-", " "), **found[name]} for name in names]
    write_json(options.output / "transfer.json", {"environment": environment(("tensorflow",)), "rows": rows})
    write_text(options.output / "transfer.md", markdown(rows))
    print(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
