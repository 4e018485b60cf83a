"""Settings of a roll-out."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSettings:
    """How a canary is tried.

    Attributes:
        shares: Shares of the people who get the canary, stage by stage, ascending.
        alpha: Most probability with which anything is decided by chance alone although the versions are equal, however
            often one looks.
        margin: Relative loss of CTR that is accepted of a canary that was not proved better when the trial ends.
        guard_margin: The same for purchases and satisfaction, also of a canary with the better CTR: clickbait attracts
            clicks. Where hardly anybody buys or says what he thinks, these are not asked.
        most_lost: Share of all clicks that may be lost: a stage with more people begins when the canary is surely not
            so bad that it would cost more.
        least_people: People of each arm in a stage before it may end, and in all before anything is decided.
        least_taken: Clicks, purchases or judgements in the stable arm before they are compared.
        most_answers: Answers in both arms after which the trial ends.
        most_days: Days after which it ends.
        most_waiting_days: Days after which a canary that no service has ready is given up.
        look_seconds: Between two comparisons of the arms at least.
        least_failures: Answers in place of the canary's before its failing counts.
        most_failing: Share of the canary's answers that others may have to give in its place.
    """

    shares: tuple[float, ...] = (0.03, 0.1, 0.25, 0.5)
    alpha: float = 0.05
    margin: float = 0.02
    guard_margin: float = 0.1
    most_lost: float = 0.04
    least_people: int = 100
    least_taken: int = 20
    most_answers: int = 160_000
    most_days: float = 14.0
    most_waiting_days: float = 1.0
    look_seconds: float = 10.0
    least_failures: int = 20
    most_failing: float = 0.05

    def __post_init__(self) -> None:
        shares = self.shares
        if not shares or not shares[0] > 0.0 or not shares[-1] < 1.0 or list(shares) != sorted(set(shares)):
            raise ValueError(f"shares of a roll-out are between 0 and 1 and ascend; got {shares}")
