"""Ablations: trains the variants of configs/ablations.yaml and tabulates them against their baselines.

    python -m benchmarks.quality.ablations [--only NAME ...] [--seeds 42 43] [--list]

Each variant is a base config with overrides; ``against`` is the variant that it is compared with, on the same
seeds, users and held-out pairs. Runs and results are kept below runs/bench/ablations/ and reused as long as
settings and data are the same, so an interrupted benchmark resumes where it stopped. Writes
runs/bench/ablations.json and .md.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, TypeAdapter
from rich.console import Console

from benchmarks.harness.runner import MISTAKE, Options, Result, run
from benchmarks.harness.store import key_of
from benchmarks.harness.table import Table
from serving.arguments import argument
from trainer.config.base import Settings
from trainer.config.loading import load_config
from trainer.config.settings import Config, dump_config
from trainer.data.catalogue import Catalogue
from trainer.data.sources import prepare
from trainer.data.split import split
from trainer.data.vocabulary import Vocabulary
from trainer.documents import read_yaml
from trainer.errors import BabelrecError
from trainer.evaluation.metrics.intervals import bootstrap_interval
from trainer.evaluation.metrics.per_user import ranking_metrics
from trainer.evaluation.protocols.aligned_titles import aligned_titles
from trainer.evaluation.protocols.holdout import HoldOut
from trainer.files import atomic_file
from trainer.models.assembly import item_table_of_run, load_recommender
from trainer.runs import Run
from trainer.training.crosslingual import alignment_pairs
from trainer.training.fit import fit

# After `trainer`, which selects the Keras version.
from tf_keras import backend as keras_backend  # isort: skip

_REGISTRY = Path("configs/ablations.yaml")
_K = 10
_METRICS = (f"recall@{_K}", f"ndcg@{_K}")
_PerUser = dict[str, npt.NDArray[np.float64]]


class Evaluation(Settings):
    """One way to evaluate a run.

    ``p1``: its own test part. ``p2``: as unknown users on the dataset of another config, by text only. ``p3``: the
    impressions of its own test part. ``titles``: accuracy@1 on the held-out parallel titles of its own dataset or of
    ``training.alignment.source``.
    """

    protocol: Literal["p1", "p2", "p3", "titles"]
    config: str | None = Field(
        None, description="For p2 and titles: config of the other dataset, below the repository."
    )
    set: list[str] = Field([], description="Overrides of that config.")


class Variant(Settings):
    """One row: a base config, its overrides, its evaluations, and the variant it is compared with."""

    name: str = Field(pattern=r"^[a-z0-9./-]+$")
    config: str
    set: list[str] = Field([], description="Overrides of the base config.")
    evaluate: list[str] = Field(min_length=1)
    against: str | None = None


class Registry(Settings):
    """configs/ablations.yaml."""

    evaluations: dict[str, Evaluation]
    variants: list[Variant]


def load_registry(path: Path = _REGISTRY) -> Registry:
    """Reads and checks the registry.

    Raises:
        BabelrecError: it is invalid, or refers to something missing.
    """
    registry = read_yaml(
        path, TypeAdapter(Registry), what="the registry of ablations", remedy="as in configs/ablations.yaml."
    )
    names = [variant.name for variant in registry.variants]
    for variant in registry.variants:
        if names.count(variant.name) > 1:
            raise BabelrecError(f"{path} has the variant {variant.name!r} twice.")
        if variant.against is not None and variant.against not in names:
            raise BabelrecError(f"{path}: {variant.name} is compared with {variant.against!r}, which doesn't exist.")
        for evaluation in variant.evaluate:
            if evaluation not in registry.evaluations:
                raise BabelrecError(
                    f"{path}: {variant.name} uses the evaluation {evaluation!r}; available: "
                    f"{', '.join(registry.evaluations)}."
                )
    return registry


def measure(run: Run, evaluation: Evaluation) -> tuple[dict[str, float], _PerUser]:
    """Metrics of a finished run, and per-user values if there are users."""
    target = None if evaluation.config is None else load_config(Path(evaluation.config), evaluation.set)
    if evaluation.protocol == "titles":
        return _titles(run, target), {}
    if evaluation.protocol == "p3":
        from trainer.evaluation.protocols.impressions import evaluate_impressions

        return {name: metric.value for name, metric in evaluate_impressions(run).metrics.items()}, {}
    return _ranked(run, target if evaluation.protocol == "p2" else None)


def _titles(run: Run, target: Config | None) -> dict[str, float]:
    config = run.config
    source = config.data.source if target is None else target.data.source
    dataset = prepare(source)
    # The held-out pairs of one seed are the same whether or not the run used alignment.
    _, held = alignment_pairs(
        config.model_copy(
            update={
                "training": config.training.model_copy(
                    update={"alignment": config.training.alignment.model_copy(update={"source": None})}
                )
            }
        ),
        dataset,
        Catalogue.from_dataset(dataset),
    )
    return aligned_titles(load_recommender(run), Vocabulary.load(run.vocabulary), config.text, held)


def _ranked(run: Run, target: Config | None) -> tuple[dict[str, float], _PerUser]:
    config = run.config
    data = config.data if target is None else target.data
    dataset = prepare(data.source)
    catalogue = Catalogue.from_dataset(dataset)
    parts = split(dataset, data)
    vocabulary = Vocabulary.load(run.vocabulary)
    items = item_table_of_run(run, catalogue, known_ids=target is None)
    hold_out = HoldOut(
        catalogue,
        vocabulary,
        parts.train_and_validation,
        parts.test,
        candidates=config.export.candidates,
        known_users=target is None,
    )
    ranker = hold_out.ranker(load_recommender(run, items), items, run.read("blend.json"))
    found = ranking_metrics(hold_out.rankings(ranker, _K), hold_out.test, ks=(_K,))
    values = {name: found.values[name] for name in _METRICS}
    return {name: float(np.nanmean(column)) for name, column in values.items()}, values


def run_variant(registry: Registry, variant: Variant, seed: int, output: Path, console: Console) -> None:
    """Trains and evaluates one variant for one seed, unless already done."""
    config, folder = _config_and_folder(variant, seed, output)
    started = time.monotonic()
    run = fit(config, folder)
    seconds = round(time.monotonic() - started, 1)
    for name in variant.evaluate:
        stem = _stem(registry, folder, name)
        if stem.with_suffix(".json").exists():
            continue
        figures, users = measure(run, registry.evaluations[name])
        with atomic_file(stem.with_suffix(".npz")) as temporary, temporary.open("wb") as file:
            np.savez(
                file, allow_pickle=False, **{metric.replace("@", "_at_"): column for metric, column in users.items()}
            )
        run.write(f"{stem.name}.json", figures)
        facts = json.dumps(figures, ensure_ascii=False)
        console.print(f"{variant.name}, seed {seed}, {name}: {facts}", highlight=False, soft_wrap=True)
    if seconds > 1.0:
        run.write("seconds.json", seconds)
    # Otherwise Keras keeps every model's graph.
    keras_backend.clear_session()


def rows_of(registry: Registry, seeds: Sequence[int], output: Path) -> list[dict[str, Any]]:
    """One row per measured variant, evaluation and metric, with its difference."""
    found = {
        (variant.name, evaluation, seed): record
        for variant in registry.variants
        for evaluation in variant.evaluate
        for seed in seeds
        if (record := _record(registry, variant, evaluation, seed, output)) is not None
    }
    rows = []
    for variant in registry.variants:
        for evaluation in variant.evaluate:
            records = {seed: found[key] for seed in seeds if (key := (variant.name, evaluation, seed)) in found}
            metrics = next(iter(records.values()))[0] if records else {}
            for metric in metrics:
                if metric.startswith("pairs "):
                    continue
                values = {seed: figures[metric] for seed, (figures, _) in records.items()}
                others = {
                    seed: found[key]
                    for seed in values
                    if variant.against is not None and (key := (variant.against, evaluation, seed)) in found
                }
                rows.append(
                    {
                        "name": variant.name,
                        "config": variant.config,
                        "set": variant.set,
                        "evaluation": evaluation,
                        "metric": metric,
                        "mean": float(np.mean(list(values.values()))),
                        "sd": float(np.std(list(values.values()), ddof=1)) if len(values) > 1 else None,
                        "seeds": list(values),
                        "against": variant.against,
                        **difference(metric, records, others),
                    }
                )
    return rows


def difference(
    metric: str,
    records: dict[int, tuple[dict[str, float], _PerUser]],
    others: dict[int, tuple[dict[str, float], _PerUser]],
) -> dict[str, Any]:
    """The mean difference over common seeds, with a 95 % bootstrap interval over users if there are users.

    Users are the same for both variants, so each user's difference (a mean over seeds) is resampled.
    """
    common = [seed for seed in records if seed in others and metric in others[seed][0]]
    if not common:
        return {"difference": None, "ci95": None}
    by_seed = [records[seed][0][metric] - others[seed][0][metric] for seed in common]
    result: dict[str, Any] = {"difference": float(np.mean(by_seed)), "ci95": None}
    if all(metric in records[seed][1] and metric in others[seed][1] for seed in common):
        users = np.mean([records[seed][1][metric] - others[seed][1][metric] for seed in common], axis=0)
        low, high = bootstrap_interval(users[np.isfinite(users)][:, np.newaxis])[0]
        result["ci95"] = [float(low), float(high)]
    return result


def page(result: Result) -> list[Table | str]:
    """The rows as tables, one for each evaluation."""
    rows = result["rows"]
    columns = ("variant", "metric", "mean", "sd", "seeds", "difference", "against")
    return [
        "Differences are to the variant in the last column; brackets: 95 % over users, paired.",
        *(
            Table(evaluation, columns, [_cells(row) for row in rows if row["evaluation"] == evaluation])
            for evaluation in dict.fromkeys(row["evaluation"] for row in rows)
        ),
    ]


def _cells(row: dict[str, Any]) -> list[str]:
    change = "" if row["difference"] is None else f"{row['difference']:+.4f}"
    if row["ci95"] is not None:
        change += f" [{row['ci95'][0]:+.4f}, {row['ci95'][1]:+.4f}]"
    spread = "" if row["sd"] is None else f"{row['sd']:.4f}"
    seeds = str(len(row["seeds"]))
    return [row["name"], row["metric"], f"{row['mean']:.4f}", spread, seeds, change, row["against"] or ""]


@dataclass(frozen=True)
class _Options(Options):
    only: list[str] = argument(
        "--only", nargs="*", default=[], metavar="NAME", help="only these variants, or those below NAME/"
    )
    seeds: list[int] = argument("--seeds", nargs="+", type=int, default=[42], help="default: %(default)s")
    registry: Path = argument("--registry", type=Path, default=_REGISTRY, metavar="YAML")
    show: bool = argument("--list", action="store_true", help="print the variants and stop")
    table: bool = argument("--table", action="store_true", help="train nothing: write the table of existing results")


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, evaluates and writes the results; returns the exit code, 2 if a variant failed."""
    failed: list[str] = []
    code = run(
        "quality.ablations",
        "Measures the effect of each option.",
        _Options,
        lambda options, console: _measure(options, console, failed),
        page,
        arguments,
        packages=("tensorflow",),
    )
    return MISTAKE if failed else code


def _measure(options: _Options, console: Console, failed: list[str]) -> Result | None:
    registry = load_registry(options.registry)
    chosen = [variant for variant in registry.variants if _wanted(variant.name, options.only)]
    if not chosen:
        raise BabelrecError(f"No variant is named {', '.join(options.only)}; see --list.")
    if options.show:
        for variant in chosen:
            print(f"{variant.name}: {variant.config} {' '.join(variant.set)}")
        return None
    folder = options.output.parent / "ablations"
    for seed in [] if options.table else options.seeds:
        for variant in chosen:
            try:
                run_variant(registry, variant, seed, folder, console)
            except BabelrecError as error:
                # The others took hours; this one can be fixed and run alone.
                failed.append(f"{variant.name}, seed {seed}")
                console.print(f"[bold red]error[/] {failed[-1]}: {error}", highlight=False, soft_wrap=True)
    return {"rows": rows_of(registry, options.seeds, folder), "failed": failed}


def _config_and_folder(variant: Variant, seed: int, output: Path) -> tuple[Config, Path]:
    """Settings are part of the name: changed ones make a new run, and old ones stay comparable."""
    config = load_config(Path(variant.config), [*variant.set, f"seed={seed}"])
    return config, output / variant.name.replace("/", "_") / f"{seed}-{key_of(dump_config(config), 10)}"


def _stem(registry: Registry, folder: Path, evaluation: str) -> Path:
    return folder / f"{evaluation}-{key_of(registry.evaluations[evaluation].model_dump_json(), 10)}"


def _wanted(name: str, only: Sequence[str]) -> bool:
    return not only or any(name == each or name.startswith(f"{each.rstrip('/')}/") for each in only)


def _record(
    registry: Registry, variant: Variant, evaluation: str, seed: int, output: Path
) -> tuple[dict[str, float], _PerUser] | None:
    stem = _stem(registry, _config_and_folder(variant, seed, output)[1], evaluation)
    if not stem.with_suffix(".json").exists():
        return None
    figures = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
    with np.load(stem.with_suffix(".npz")) as stored:
        users = {name.replace("_at_", "@"): stored[name] for name in stored.files}
    return figures, users


if __name__ == "__main__":
    sys.exit(main())
