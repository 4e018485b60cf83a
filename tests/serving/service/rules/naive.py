"""Rules by a slow interpreter of the plain document, written apart from the service: it follows docs, not code."""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from serving.service.types import Item

Plain = dict[str, Any]


def same(one: object, other: object) -> bool:
    """Whether two values are equal for rules."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, str) and isinstance(other, str):
        # Canonical equivalence by the other normal form.
        return unicodedata.normalize("NFD", one) == unicodedata.normalize("NFD", other)
    if isinstance(one, str) or isinstance(other, str):
        return False
    return one == other


def column(item: Item, name: str) -> list[Any]:
    flat: Plain = {**item.attributes, **item.numbers}
    flat |= {
        "item_id": item.item_id,
        "title": item.title,
        "description": item.description,
        "language": item.language,
        "valid_from": item.valid_from,
        "valid_until": item.valid_until,
    }
    found = list(item.categories) if name == "categories" else [flat.get(name)]
    return [value for value in found if value not in (None, "") and not (isinstance(value, float) and value != value)]


def speaks(tag: str, wanted: str) -> bool:
    """RFC 4647, basic filtering."""
    tag, wanted = tag.lower(), wanted.lower()
    return bool(tag) and (tag == wanted or tag[: len(wanted) + 1] == wanted + "-")


def true_of(where: Mapping[str, Any], item: Item) -> bool:
    for name, inner in where.items():
        if name == "all":
            held = all(true_of(part, item) for part in inner)
        elif name == "any":
            held = any(true_of(part, item) for part in inner)
        elif name == "not":
            held = not true_of(inner, item)
        else:
            held = all(operator_holds(name, operator, wanted, item) for operator, wanted in inner.items())
        if not held:
            return False
    return True


def operator_holds(name: str, operator: str, wanted: Any, item: Item) -> bool:
    for value in column(item, name):
        match operator:
            case "equals" | "in":
                options = wanted if operator == "in" else [wanted]
                if name == "language":
                    held = any(speaks(value, option) for option in options)
                else:
                    held = any(same(value, option) for option in options)
            case "contains" if name == "categories":
                held = same(value, wanted)
            case "contains":
                held = isinstance(value, str) and loose(wanted) in loose(value)
            case _:
                numeric = isinstance(value, int | float) and not isinstance(value, bool)
                held = (
                    numeric
                    and {
                        "<": value < wanted,
                        "<=": value <= wanted,
                        ">": value > wanted,
                        ">=": value >= wanted,
                    }[operator]
                    if numeric
                    else False
                )
        if held:
            return True
    return False


def loose(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def active(rule: Plain, request: Plain) -> bool:
    def moment(value: Any) -> float:
        return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else value

    return (
        ("placements" not in rule or request["placement"] in rule["placements"])
        and ("languages" not in rule or any(speaks(request["language"], tag) for tag in rule["languages"]))
        and ("countries" not in rule or request["country"].lower() in [one.lower() for one in rule["countries"]])
        and ("from" not in rule or request["now"] >= moment(rule["from"]))
        and ("until" not in rule or request["now"] < moment(rule["until"]))
    )


def changed(rule: Plain, item: Item, score: float, now: float) -> float | None:
    if not math.isfinite(score) or not true_of(rule.get("where", {}), item):
        return None
    share = 1.0
    if rule["kind"] == "freshness":
        times = [t for t in column(item, rule.get("column", "valid_from")) if not isinstance(t, str | bool)]
        if not times:
            return None
        age_days = max(0.0, now - times[0]) / 86400
        share = 2.0 ** -(age_days / rule["half_life_days"])
    if "add" in rule:
        return float(score + rule["add"] * share)
    factor: float = 1 + (rule["multiply"] - 1) * share
    return score * factor if score > 0 else score / factor


def expected(
    rules: Sequence[Plain],
    candidates: Sequence[tuple[Item, float]],
    extras: Sequence[tuple[Item, float]],
    request: Plain,
    count: int,
) -> Plain:
    """What the answer must be, as plain data."""
    rules = [rule for rule in rules if active(rule, request)]
    now = request["now"]
    kept_out = {rule["name"]: 0 for rule in rules}
    fate: dict[str, str] = {}
    unavailable = repeated = 0
    pool: list[Plain] = []
    for is_extra, (item, score) in [*((False, each) for each in candidates), *((True, each) for each in extras)]:
        if is_extra and item.item_id in [other.item_id for other, _ in candidates]:
            continue
        early = item.valid_from is not None and now < item.valid_from
        late = item.valid_until is not None and now >= item.valid_until
        if not item.available or early or late:
            fate.setdefault(item.item_id, "unavailable")
            unavailable += not is_extra
            continue
        blocking = [rule for rule in rules if rule["kind"] == "block" and true_of(rule["where"], item)]
        if blocking:
            fate.setdefault(item.item_id, "blocked")
            kept_out[blocking[0]["name"]] += not is_extra
            continue
        touches = []
        for rule in rules:
            if rule["kind"] in ("boost", "bury", "freshness"):
                after = changed(rule, item, score, now)
                if after is not None:
                    touches.append((rule["name"], rule["kind"], score, after, None))
                    score = after
        pool.append({"item": item, "score": score, "touches": touches, "extra": is_extra, "pinned": False})

    # Selection sort: the first of the best each time.
    ranked: list[Plain] = []
    while pool:
        best = pool[0]
        for entry in pool:
            low_best = best["score"] != best["score"] or best["score"] == -math.inf
            if entry["score"] > best["score"] or (low_best and entry["score"] > -math.inf):
                best = entry
        pool = [entry for entry in pool if entry is not best]
        if any(best["item"].item_id == other["item"].item_id for other in ranked):
            repeated += not best["extra"]
        else:
            ranked.append(best)

    places: list[Plain | None] = [None] * count
    missed = []
    for rule in rules:
        if rule["kind"] != "pin":
            continue
        found = [entry for entry in ranked if entry["item"].item_id == rule["item"]]
        free = [place for place in range(count) if place >= rule["position"] and places[place] is None]
        if not found:
            missed.append((rule["name"], rule["item"], fate.get(rule["item"], "absent")))
        elif found[0]["pinned"]:
            missed.append((rule["name"], rule["item"], "repeated"))
        elif not free:
            missed.append((rule["name"], rule["item"], "beyond"))
        else:
            places[free[0]] = found[0]
            found[0].update({"pinned": True, "by": rule["name"]})

    shown = [entry for entry in places if entry is not None]
    for entry in ranked:
        if entry["pinned"] or entry["extra"] or None not in places:
            continue
        full = [rule for rule in rules if rule["kind"] == "cap" and is_full(rule, entry["item"], shown)]
        if full:
            kept_out[full[0]["name"]] += 1
            continue
        places[places.index(None)] = entry
        shown.append(entry)

    items = []
    for place, entry in enumerate([entry for entry in places if entry is not None]):
        pin = [(entry["by"], "pin", None, None, place)] if entry["pinned"] else []
        items.append((entry["item"].item_id, entry["score"], entry["touches"] + pin))
    return {
        "items": items,
        "removals": [(name, number) for name, number in kept_out.items() if number],
        "missed": missed,
        "unavailable": unavailable,
        "repeated": repeated,
    }


def is_full(cap: Plain, item: Item, shown: Sequence[Plain]) -> bool:
    where = cap.get("where", {})
    if not true_of(where, item):
        return False
    for value in column(item, cap["per"]):
        like = 0
        for entry in shown:
            if true_of(where, entry["item"]) and any(
                alike(value, other, cap) for other in column(entry["item"], cap["per"])
            ):
                like += 1
        if like >= cap["at_most"]:
            return True
    return False


def alike(one: Any, other: Any, cap: Plain) -> bool:
    return one.lower() == other.lower() if cap["per"] == "language" else same(one, other)
