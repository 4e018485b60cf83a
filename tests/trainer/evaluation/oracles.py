"""The definitions of EVALUATION.md as plain loops over lists and sets, written independently of the code."""

import math


def rank(scores: list[float], excluded: set[int], k: int) -> list[int]:
    """Best first, lower index first among equals; -inf is not a candidate; padded with -1."""
    candidates = [i for i in range(len(scores)) if i not in excluded and scores[i] != -math.inf]
    best = sorted(candidates, key=lambda item: (-scores[item], item))[:k]
    return best + [-1] * (k - len(best))


def recall(ranking: list[int], relevant: set[int], k: int) -> float:
    return sum(item in relevant for item in ranking[:k]) / min(k, len(relevant))


def ndcg(ranking: list[int], relevant: set[int], k: int) -> float:
    gained = 0.0
    for place, item in enumerate(ranking[:k], start=1):
        if item in relevant:
            gained += 1 / math.log2(place + 1)
    ideal = sum(1 / math.log2(place + 1) for place in range(1, min(k, len(relevant)) + 1))
    return gained / ideal


def hit_rate(ranking: list[int], relevant: set[int], k: int) -> float:
    return 1.0 if set(ranking[:k]) & relevant else 0.0


def reciprocal_rank(ranking: list[int], relevant: set[int], k: int) -> float:
    for place, item in enumerate(ranking[:k], start=1):
        if item in relevant:
            return 1 / place
    return 0.0


def percentile(item: int, counts: list[int]) -> float:
    fewer = sum(count < counts[item] for count in counts)
    same = sum(count == counts[item] for count in counts)
    return 100 * (fewer + same / 2) / len(counts)


def mean_percentile(ranking: list[int], counts: list[int], k: int) -> float:
    listed = [item for item in ranking[:k] if item >= 0]
    return sum(percentile(item, counts) for item in listed) / len(listed) if listed else math.nan


def coverage(rankings: list[list[int]], users: list[int], k: int, num_items: int) -> float:
    return len({item for user in users for item in rankings[user][:k] if item >= 0}) / num_items


PER_USER = {"recall": recall, "ndcg": ndcg, "hr": hit_rate, "mrr": reciprocal_rank}


def per_user_split(
    rows: list[tuple[int, int, float, int]], least: float
) -> tuple[list[list[int]], list[list[int]], list[int]]:
    """P1 steps 1 and 2 over (user, item, rating, timestamp): training and test items of each user.

    Items are numbered in id order; the ids are returned last.
    """
    positives: dict[int, dict[int, int]] = {}
    for user, item, rating, timestamp in rows:
        if rating >= least:
            positives.setdefault(user, {}).setdefault(item, timestamp)
    positives = {user: items for user, items in positives.items() if len(items) >= 5}
    ids = sorted({item for items in positives.values() for item in items})
    number = {item: position for position, item in enumerate(ids)}
    train, test = [], []
    for user in sorted(positives):
        ordered = sorted(positives[user], key=lambda item: (positives[user][item], item))
        held_out = -(-len(ordered) // 5)  # ceil(20 %), in whole numbers
        train.append([number[item] for item in ordered[:-held_out]])
        test.append([number[item] for item in ordered[-held_out:]])
    return train, test, ids
