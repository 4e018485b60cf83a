"""What the arms of a roll-out did, from the answers and events of the store."""

import numpy as np

from serving.service.outcomes import Attributed, OutcomeSettings, OutcomeStore, attribute, read_period
from serving.service.rollout.assignment import CANARY, STABLE
from serving.service.rollout.deciding import Observed
from serving.service.rollout.sequential import Arms, Floats
from serving.service.store import Rollout


def observe(store: OutcomeStore, rollout: Rollout, now: float, settings: OutcomeSettings) -> Observed:
    """Reads all answers since the roll-out's first stage began.

    An answer counts for the arm that its person is in, whoever gave it. What people do later with answers of both arms
    is missing in both alike.

    Raises:
        InvalidRequestError: there are more than the settings allow.
        StoreError: the store can't be read.
    """
    period = read_period(store, rollout.stages[0].since, now, now, settings)
    return observed(attribute(period, settings), rollout)


def observed(attributed: Attributed, rollout: Rollout) -> Observed:
    """Sums by person, stage and arm."""
    answers = attributed.period.answers
    variant, version = answers.labels["variant"], answers.labels["version"]
    arm = np.array([(STABLE, CANARY).index(text) if text in (STABLE, CANARY) else -1 for text in variant.texts], int)
    tried = arm[variant.codes] if len(answers) else np.zeros(0, int)
    rows = np.flatnonzero(tried >= 0)
    is_canary = tried[rows] == 1
    begun = np.array([stage.since for stage in rollout.stages])
    stage = np.maximum(np.searchsorted(begun, answers.timestamp[rows], side="right") - 1, 0)
    keys, cell = np.unique((answers.person[rows] * len(begun) + stage) * 2 + is_canary, return_inverse=True)

    def total(values: Floats) -> Floats:
        return np.bincount(cell, values[rows], len(keys)).astype(np.float64)

    wanted = {place for place, text in enumerate(version.texts) if text == str(rollout.canary)}
    given = np.isin(version.codes[rows], list(wanted))
    number = total(np.ones(len(answers)))
    return Observed(
        arms=Arms((keys // 2 // len(begun)).astype(np.int64), keys // 2 % len(begun), keys % 2 == 1),
        sums={
            "ctr": (total(attributed.counts["click"]), total(answers.shown.astype(np.float64))),
            "purchases": (total(attributed.counts["purchase"]), number),
            "satisfaction": (total(attributed.satisfaction), total(attributed.opinions)),
        },
        answers=len(rows),
        canary_answers=int(is_canary.sum()),
        # Where nobody answered in the canary's place, the stable version is away too.
        failures=int((is_canary & ~given & ~answers.degraded[rows]).sum()),
    )
