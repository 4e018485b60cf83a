"""Small worlds for tests."""

from functools import cache
from typing import Literal

from benchmarks.simulation.settings import Behaviour, Examination, Items, People, WorldSettings
from benchmarks.simulation.world import World

PBM = Examination(model="pbm", decay=0.7)
CRASWELL = Examination(model="cascade")
CASCADE = Examination(model="cascade", after_skip=0.9, after_click=0.4)
MODELS = {"pbm": PBM, "craswell": CRASWELL, "cascade": CASCADE}
Model = Literal["pbm", "craswell", "cascade"]


@cache
def small_world(model: Model = "pbm", seed: int = 5) -> World:
    """60 people, 40 items a day, a week."""
    settings = WorldSettings(
        days=7,
        people=People(count=60, visits_a_day=1.5, drift=0.1),
        items=Items(count=40, fresh_days=4),
        behaviour=Behaviour(examination=MODELS[model]),
    )
    return World(settings, seed)
