"""Chooses each baseline's settings on the validation part; a killed search resumes."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.baselines.config import BASELINES, BaselinesConfig, Chosen, load, save_chosen
from benchmarks.baselines.problem import Problem, validation_problem
from benchmarks.baselines.settings import Baseline
from benchmarks.harness.runner import progress
from benchmarks.harness.store import key_of, write_json
from trainer.config.base import Settings
from trainer.config.loading import load_config
from trainer.data.settings import DataConfig

CRITERION = "ndcg@10"
_SHOWN = ("recall@10", "ndcg@10")


def data_of(config: BaselinesConfig) -> DataConfig:
    """The data config of a settings file."""
    return load_config(Path(config.data), [f"data.split.train_users={config.train_users}"]).data


def search(name: str, baselines: Sequence[str], directory: Path, console: Console) -> None:
    """Tries every combination of configs/baselines/<name>.yaml and writes the best ones into it.

    Args:
        name: Name of the file.
        baselines: Names of the baselines to search.
        directory: Stores one small JSON per trial, so that none is repeated.
        console: Shows the progress.
    """
    config = load(name)
    wanted = [BASELINES[baseline] for baseline in config.search if baseline in baselines]
    problems = {seed: validation_problem(data_of(config), seed) for seed in config.seeds}
    with progress(console) as bar:
        for baseline in wanted:
            candidates = config.candidates(baseline)
            task = bar.add_task(f"{name}: {baseline.name}", total=len(candidates))
            best: tuple[dict[str, float], Settings] | None = None
            for settings in candidates:
                found = _trial(baseline, settings, problems, directory / name)
                if best is None or found[CRITERION] > best[0][CRITERION]:
                    best = found, settings
                bar.advance(task)
            if best is not None:
                figures = {metric: round(best[0][metric], 4) for metric in _SHOWN}
                chosen = Chosen(settings=best[1].model_dump(), validation=figures, tried=len(candidates))
                save_chosen(name, {baseline.name: chosen})


def _trial(baseline: Baseline, settings: Settings, problems: dict[int, Problem], directory: Path) -> dict[str, float]:
    """Mean metrics of one combination over the seeds, read from disk if already tried."""
    facts = {
        "peer": baseline.name,
        "settings": settings.model_dump(),
        "seeds": list(problems),
        "sizes": [[len(p.learners.items), p.test.indices.size, p.test.num_items] for p in problems.values()],
    }
    file = directory / f"{baseline.name}-{key_of(json.dumps(facts, sort_keys=True), 16)}.json"
    if file.exists():
        return dict(json.loads(file.read_text(encoding="utf-8"))["validation"])
    started = time.monotonic()
    found = [problem.metrics(baseline.fit(problem, settings, seed)) for seed, problem in problems.items()]
    means = {metric: float(np.mean([each[metric] for each in found])) for metric in found[0]}
    write_json(file, facts | {"validation": means, "seconds": round(time.monotonic() - started, 2)})
    return means
