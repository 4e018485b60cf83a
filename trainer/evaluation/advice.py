"""Advice if a model is not as good as it should be."""

from collections.abc import Mapping
from typing import Final

from trainer.config.settings import Config

# With a smaller relative gain at the last epoch, the curve has flattened out.
_GAIN: Final = 0.005
_METRICS: Final = {"recall@10": "Recall@10", "ndcg@10": "NDCG@10"}


def still_improving(best_epoch: int, epochs: int, gain: float, config: Config) -> str | None:
    """Returns a warning if the last epoch was clearly the best one.

    Args:
        best_epoch: Epoch with the best validation metric, from 1.
        epochs: Planned number of epochs.
        gain: Relative gain of the last epoch over the best one before.
        config: Settings of the run.
    """
    if best_epoch < epochs or gain < _GAIN:
        return None
    more = 2 * config.training.epochs
    return (
        f"Still improving at the last epoch (by {gain:.1%} in epoch {epochs} of {epochs}): train longer, for "
        f"example --set training.epochs={more} with another --run-dir."
    )


def below_popularity(
    ours: Mapping[str, float], popularity: Mapping[str, float], part: str, config: Config
) -> str | None:
    """Returns a warning if showing all users the most popular items would be better.

    Args:
        ours: Means of the whole request: ``recall@10``, ``ndcg@10``; missing ones are not compared.
        popularity: The same for popularity, over the same users.
        part: Description of the users, for example "validation part".
        config: Settings of the run.
    """
    for name, label in _METRICS.items():
        if name in ours and name in popularity and ours[name] < popularity[name]:
            return (
                f"Below popularity ({label} {ours[name]:.4f} against {popularity[name]:.4f} on the {part}): showing "
                f"all users the most popular items would be better. Try {_remedies(config)}."
            )
    return None


def _remedies(config: Config) -> str:
    found = []
    if config.model.linear.rank == 0:
        found.append("--set model.linear.rank=128 (up to 20,000 items)")
    if not config.model.candidate.popularity:
        found.append("--set model.candidate.popularity=true")
    found.append(f"--set training.epochs={2 * config.training.epochs}")
    found.append("a lower value of `data.positives`, for more training data")
    return ", or ".join(found)
