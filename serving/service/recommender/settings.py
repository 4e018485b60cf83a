"""Settings of the recommender."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommenderSettings:
    """How requests are answered.

    Attributes:
        deadline: Seconds within which a request is answered, by the store's popular items if need be.
        history: Newest items of a history that the model is given.
        candidates: Fresh items that ranking takes at most; as `export.candidates`.
        poll: Seconds between two looks at what other replicas have written.
        model_poll: Seconds between two looks at the served version.
        explore: Probability that an answer shows an item that nobody has seen yet, unless there is none.
        explore_least: Times that an item is shown before it counts as seen.
    """

    deadline: float = 1.0
    history: int = 50
    candidates: int = 200
    poll: float = 0.2
    model_poll: float = 1.0
    explore: float = 0.0
    explore_least: int = 20
