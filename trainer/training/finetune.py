"""`finetune`: trains a finished run on another market's data and compares the quality on both."""

import logging
from pathlib import Path
from typing import Any

from trainer.config.checks import check_compatible
from trainer.config.settings import Config
from trainer.data.dataset import Dataset
from trainer.data.sources import prepare
from trainer.data.split import split
from trainer.errors import BabelrecError
from trainer.evaluation.protocols.collaborative import evaluate_collaborative
from trainer.evaluation.protocols.zero_shot import evaluate_zero_shot
from trainer.evaluation.report.contents import EvaluationReport
from trainer.files import write_text
from trainer.locks import writing_alone
from trainer.models.assembly import load_recommender
from trainer.runs import Run
from trainer.text.tuning import parameter_counts
from trainer.training.fit import fit_locked
from trainer.training.transfer import SourceModel, check_encoders, source_config

_LOG = logging.getLogger(__name__)
SOURCE_DIRECTORY = "source"
RECORD = "finetune.json"
# One order of magnitude below the source's learning rate.
_RATE_FACTOR = 0.1
_METRICS = ("recall@10", "ndcg@10")


def finetune_config(config: Config, source: Run) -> Config:
    """The settings of a run that starts from ``source``.

    ``model`` and ``text.encoder`` are the source's if ``config`` doesn't set them, and the learning rate is a tenth
    of the source's.

    Raises:
        BabelrecError: the source is not finished, or the settings don't fit it.
    """
    if not source.finished:
        raise BabelrecError(
            f"{source.path} has no trained model to start from. Finish it: trainer.task fit --run-dir {source.path}"
        )
    training: dict[str, Any] = {"start_from": source.path.absolute()}
    if "learning_rate" not in config.training.model_fields_set:
        training["learning_rate"] = source.config.training.learning_rate * _RATE_FACTOR
    text = config.text
    if "text" not in config.model_fields_set:
        text = source.config.text
    elif "encoder" not in text.model_fields_set:
        text = text.model_copy(update={"encoder": source.config.text.encoder})
    check_encoders(source.config.text, text)
    merged = config.model_copy(
        update={
            "text": text,
            "model": config.model if "model" in config.model_fields_set else source.config.model,
            "training": config.training.model_copy(update=training),
        }
    )
    check_compatible(merged)
    # The source's model gets the new run's encoder, and must remain a separate run.
    check_compatible(source_config(source, text))
    return merged


def finetune(config: Config, source: Run, run_dir: Path) -> dict[str, Any]:
    """Trains a run that starts from another and measures both markets before and after.

    Args:
        config: Settings of the new run, see `finetune_config`.
        source: The run to start from.
        run_dir: Directory of the new run; the source's model with the new shared weights is in ``source``
            below it, as a separate finished run.

    Returns:
        The content of ``finetune.json``: metrics of target and source before and after, ``forgetting`` (the share
        of the source's metric that was lost), parameters of the encoder, training time in seconds.

    Raises:
        BabelrecError: as for `fit`.
    """
    config = finetune_config(config, source)
    # Check now rather than after training.
    source_data = source.dataset()
    for name, each in (("the config", config), (str(source.path), source.config)):
        if split(prepare(each.data.source), each.data).test.is_empty():
            raise BabelrecError(
                f"{name} leaves no test part (data.split.test_fraction), which finetune needs for its comparison. Set "
                "one, or use fit with training.start_from, which makes no comparison."
            )
    Run.check_path(run_dir)
    with writing_alone(run_dir):
        return _finetune(config, source, source_data, run_dir)


def _finetune(config: Config, source: Run, source_data: Dataset, run_dir: Path) -> dict[str, Any]:
    run = fit_locked(config, run_dir)
    model = load_recommender(run)
    other = SourceModel(source, run.config.text)
    other.follow(model)()
    after = other.save(run_dir / SOURCE_DIRECTORY)
    counts = parameter_counts(model.candidate_tower.encoder, run.config.text)
    del model, other
    same_data = prepare(run.config.data.source).fingerprint == source_data.fingerprint
    transfer = run.path / "transfer.json"
    market: dict[str, dict[str, Any]] = {
        # On the same dataset nothing is zero-shot: the model was trained on the same users.
        "target": {
            "before": None if same_data else _metrics(evaluate_zero_shot(_at_ten(source), run.config)),
            "after": _metrics(evaluate_collaborative(_at_ten(run))),
        },
        "source": {
            name: _metrics(evaluate_collaborative(_at_ten(each)))
            for name, each in (("before", source), ("after", after))
        },
    }
    record = {
        "schema": 1,
        "from": str(source.path),
        "data": {"source": source.read("data.json")["name"], "target": run.read("data.json")["name"]},
        "mode": run.config.text.tuning.mode,
        "learning_rate": run.config.training.learning_rate,
        "share": run.read(transfer.name)["share"] if transfer.exists() else 1.0,
        **market,
        "forgetting": {
            name: forgetting(market["source"]["before"][name], market["source"]["after"][name]) for name in _METRICS
        },
        "encoder": counts,
        "seconds": run.read("history.json")["seconds"],
    }
    run.write(RECORD, record)
    write_text(run.path / "finetune.md", finetune_markdown(record))
    return record


def forgetting(before: float, after: float) -> float:
    """The share of ``before`` that is lost; negative for a gain."""
    return (before - after) / before if before else 0.0


def finetune_markdown(record: dict[str, Any]) -> str:
    """The record as a table."""
    lines = [f"| data | {' | '.join(f'{name} before | after | change' for name in _METRICS)} |"]
    lines.append("|---" * (1 + 3 * len(_METRICS)) + "|")
    for role in ("target", "source"):
        before, after = record[role]["before"], record[role]["after"]
        cells = []
        for name in _METRICS:
            first = None if before is None else before[name]
            change = "" if first is None else f"{-100 * forgetting(first, after[name]):+.1f} %"
            cells.append(f"{'-' if first is None else f'{first:.4f}'} | {after[name]:.4f} | {change}")
        lines.append(f"| {role}: {record['data'][role]} | {' | '.join(cells)} |")
    encoder = record["encoder"]
    lines.append("")
    lines.append(
        f"Encoder: {record['mode']}, {encoder['trained']:,} of {encoder['total']:,} parameters trained "
        f"({100 * encoder['share']:.2f} %). Learning rate {record['learning_rate']:.2g}, {record['share']:.0%} of the "
        f"trained weights kept, {record['seconds']:.0f} s."
    )
    return "\n".join(lines) + "\n"


def _at_ten(run: Run) -> Run:
    """The run, evaluated at the record's cut-off, whatever its own config says."""
    evaluation = run.config.evaluation.model_copy(update={"ks": [10]})
    return Run(run.path, run.config.model_copy(update={"evaluation": evaluation}))


def _metrics(report: EvaluationReport) -> dict[str, float]:
    return {name: float(report.metrics[name].value) for name in _METRICS}
