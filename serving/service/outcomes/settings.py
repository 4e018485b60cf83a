"""What counts as an outcome, and how much is read for measuring."""

from dataclasses import dataclass
from typing import Final

DAY_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeSettings:
    """How outcomes are attributed and measured.

    Attributes:
        click_days: A click counts for the answer that it names if it comes within so many days after it; so does the
            time that people spend.
        purchase_days: The same for a purchase.
        feedback_days: The same for ratings, likes, dislikes, completes, hides and skips.
        return_days: Within which somebody must be back to count as returned.
        lowest_rating, highest_rating: The scale, which becomes 0 to 1.
        most_days: Longest period.
        most_answers, most_events: Read for one period; memory is about 1 KB an answer of ten items.
    """

    click_days: float = 1.0
    purchase_days: float = 7.0
    feedback_days: float = 7.0
    return_days: float = 7.0
    lowest_rating: float = 1.0
    highest_rating: float = 5.0
    most_days: float = 92.0
    most_answers: int = 300_000
    most_events: int = 3_000_000

    def __post_init__(self) -> None:
        if not self.lowest_rating < self.highest_rating:
            raise ValueError(f"the scale of ratings is empty: {self.lowest_rating} to {self.highest_rating}")

    def window(self, kind: str) -> float:
        """Seconds after an answer in which an event of a kind counts for it."""
        days = {"click": self.click_days, "view": self.click_days, "play": self.click_days}
        return DAY_SECONDS * days.get(kind, self.purchase_days if kind == "purchase" else self.feedback_days)

    @property
    def longest_window(self) -> float:
        """Seconds until no more events count for an answer."""
        return DAY_SECONDS * max(self.click_days, self.purchase_days, self.feedback_days)
