"""A challenger and the gate's verdict on it, in the directory of an update."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from trainer.data.dataset import Dataset
from trainer.data.split import positives
from trainer.runs import Run
from trainer.updating.data_checks import data_checks
from trainer.updating.gate import compare, refuse_data
from trainer.updating.learning import learn_on
from trainer.updating.report import write_report
from trainer.updating.settings import UpdateConfig
from trainer.updating.verdict import GATE_FILE, Verdict, load_verdict, save_verdict


def new_positives(dataset: Dataset, rules: Mapping[str, float | None], since: int) -> pl.DataFrame:
    """The positives from a time on, unix seconds, as an update counts them: user_id, item_id, timestamp."""
    return positives(dataset, rules, refusals=True).filter(pl.col("timestamp") >= since)


def challenge(
    folder: Path, champion: Run, dataset: Dataset, settings: UpdateConfig, *, kept: int, since: int
) -> tuple[Run | None, Verdict]:
    """Checks the data, trains a challenger and judges it; continues where a killed process stopped.

    Args:
        folder: Of the update: ``run`` and the gate's report. A champion that was promoted by a gate is in such a
            directory too.
        champion: The served run.
        dataset: A later state of its data.
        settings: How.
        kept: Newest positives to judge by.
        since: Unix seconds from which on events are new to the champion.

    Returns:
        The challenger, None if there is something wrong with the data, and the verdict.
    """
    known = load_verdict(folder) if (folder / GATE_FILE).exists() else None
    if known is not None:
        return None if known.challenger is None else Run.open(folder / "run"), known
    data = list(data_checks(champion.dataset(), dataset, since, settings.gate))
    challenger = None
    if all(check.holds for check in data):
        challenger = learn_on(champion, dataset, folder / "run", settings, kept=kept, since=since)
        before = champion.path.parent
        earlier = load_verdict(before) if (before / GATE_FILE).exists() else None
        verdict = compare(champion, challenger, dataset, settings.gate, data, earlier)
    else:
        verdict = refuse_data(champion, data, since)
    write_report(verdict, folder)
    save_verdict(verdict, folder)
    return challenger, verdict
