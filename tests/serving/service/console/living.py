"""A store with a past: roll-outs, and three weeks of answers with events."""

from unittest import mock

import numpy as np

from serving.service.store import RolloutState, Store
from serving.service.types import Event, Item, ShownItem, ShownRecommendation

DAY = 86_400
GATE = {
    "update": "update-0007",
    "sentence": "Promoted on 5,120 newest positives of 2,048 people: ndcg@10 of all people: 0.2310 -> 0.2388.",
    "gate": {
        "promoted": True,
        "champion": "runs/6",
        "challenger": "runs/7",
        "since": 1,
        "people": 2_048,
        "positives": 5_120,
        "checks": [
            {"kind": "quality", "name": "all people", "measure": "ndcg@10", "champion": 0.231, "challenger": 0.2388}
            | {"limit": 0.2264, "holds": True, "people": 2_048, "difference": 0.0078, "low": 0.0031, "high": 0.0125},
            {"kind": "slice", "name": "items in ko", "measure": "ndcg@10", "champion": 0.198, "challenger": 0.191}
            | {"limit": 0.1881, "holds": True, "people": 212, "difference": -0.007, "low": -0.021, "high": 0.007},
            {"kind": "coverage", "name": "all lists", "measure": "coverage@10", "champion": 0.41, "challenger": 0.36}
            | {"limit": 0.39, "holds": False, "people": None, "difference": None, "low": None, "high": None},
        ],
    },
}


def _lift(value: float, width: float) -> dict[str, float]:
    return {"value": value, "error": width / 3, "low": value - width, "high": value + width}


def _figures(at: float, ctr: float, width: float) -> dict[str, object]:
    return {
        "at": at,
        "answers": 41_207,
        "canary_answers": 9_120,
        "failures": 3,
        "people": {"stable": 3_110, "canary": 1_044},
        "lift": {"ctr": _lift(ctr, width), "purchases": _lift(0.06, 0.31), "satisfaction": _lift(-0.01, 0.09)},
    }


def fill_rollouts(store: Store, now: float) -> None:
    """One that ended after a promotion, one that was rolled back by hand and ended, and one that runs."""
    with mock.patch("serving.service.store.rollouts.time") as clock:
        for number, ctr in ((1, 0.08), (2, -0.11)):
            begun = now - (12 - 4 * number) * DAY
            clock.time.return_value = begun
            rollout = store.start_rollout(
                "recommender", 3, 3 + number, "trainer", GATE if number == 1 else {"루프": "✓"}
            )
            for hours, share in ((0, 0.03), (9, 0.1), (20, 0.25)):
                clock.time.return_value = begun + 3_600 * hours
                rollout = store.change_rollout(
                    rollout,
                    RolloutState.RUNNING,
                    "service",
                    "No great loss.",
                    share=share,
                )
            clock.time.return_value = begun + 33 * 3_600
            better = ctr > 0
            store.change_rollout(
                rollout,
                RolloutState.PROMOTED if better else RolloutState.ROLLED_BACK,
                "service" if better else "민수",
                "The canary is better: ctr +8.00% (+3.00% to +13.00%)." if better else "고객이 불평한다",
                figures=_figures(begun + 33 * 3_600, ctr, 0.05),
            )
            clock.time.return_value = begun + 34 * 3_600
            store.end_rollout(number, "trainer")
        clock.time.return_value = now - 10 * 3_600
        rollout = store.start_rollout("recommender", 4, 6, "trainer", GATE)
        for hours, share in ((9, 0.03), (5, 0.1)):
            clock.time.return_value = now - 3_600 * hours
            rollout = store.change_rollout(
                rollout, RolloutState.RUNNING, "service", "The canary is ready.", share=share
            )
        store.put_rollout_figures(rollout, _figures(now - 60, 0.021, 0.034))


def fill_answers(store: Store, now: float, days: int = 20) -> None:
    """Answers of 120 people who read one of four languages, of whom those of Korean are the fewest."""
    draw = np.random.default_rng(16)
    items = [f"i{number:02}" for number in range(10)]
    store.put_items([Item(item_id=each, language="en", title=each) for each in items])
    languages = draw.choice(["en", "ar", "zh", "ko"], 120, p=[0.5, 0.25, 0.2, 0.05])
    rates = {"en": 0.1, "ar": 0.06, "zh": 0.14, "ko": 0.08}
    shown, events = [], []
    for day in range(days):
        for person in draw.permutation(120)[:90]:
            name, language = f"사람{person}", str(languages[person])
            places = [items[each] for each in draw.permutation(len(items))[:5]]
            timestamp = now - DAY * (days - day) + float(draw.uniform(0, DAY / 2))
            answer = f"a{day}-{person}"
            shown.append(
                ShownRecommendation(
                    recommendation_id=answer,
                    timestamp=timestamp,
                    user_id=name,
                    language=language,
                    placement="home",
                    model_version=4 if day < days // 2 else 5,
                    items=[ShownItem(item_id=each, score=float(draw.normal())) for each in places],
                )
            )
            for place, each in enumerate(shown[-1].items):
                if draw.random() < rates[language] * (1.0 + 0.5 * (day >= days // 2)):
                    for kind, chance in (("click", 1.0), ("purchase", 0.2), ("like", 0.2), ("hide", 0.1)):
                        if draw.random() < chance:
                            events.append(
                                Event(
                                    event_id=f"{answer}-{place}-{kind}",
                                    event=kind,
                                    timestamp=int(timestamp) + 30,
                                    user_id=name,
                                    item_id=each.item_id,
                                    recommendation_id=answer,
                                )
                            )
    for start in range(0, len(shown), 500):
        store.log_recommendations(shown[start : start + 500])
    for start in range(0, len(events), 500):
        store.append_events(events[start : start + 500])
