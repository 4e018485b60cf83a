"""Warnings about rules that are valid and do nothing."""

import difflib
from collections.abc import Collection
from dataclasses import dataclass

from serving.service.rules.kinds import Pin, Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class LintWarning:
    """Something about a rule that is probably a mistake.

    Attributes:
        rule: Its name.
        column: The column that no item has; empty if it is about something else.
        text: The problem and the remedy.
    """

    rule: str
    column: str
    text: str


def lint(rules: Rules, columns: Collection[str]) -> tuple[LintWarning, ...]:
    """Warns of columns that no item has, and of pins that want the same place at the same time.

    Args:
        rules: The rules.
        columns: Those that at least one item has (`columns_of`).
    """
    warnings = []
    known = sorted(columns)
    for rule in rules.rules:
        for column in dict.fromkeys(rule.columns()):
            if column not in columns:
                near = difflib.get_close_matches(column[:60], known, n=1)
                remedy = f"Did you mean {near[0]!r}?" if near else "Correct the name, or add the column to the items."
                text = f"no item has the column {column!r:.60}: conditions on it are false. {remedy}"
                warnings.append(LintWarning(rule=rule.name, column=column, text=text))
    return (*warnings, *_pins_in_one_place(rules))


def _pins_in_one_place(rules: Rules) -> list[LintWarning]:
    first: dict[object, str] = {}
    warnings = []
    for rule in rules.rules:
        if isinstance(rule, Pin):
            earlier = first.setdefault((rule.position, rule.scope), rule.name)
            if earlier != rule.name:
                text = f"{earlier!r:.60} has the place {rule.position} already: this gets the next free one. Move one."
                warnings.append(LintWarning(rule=rule.name, column="", text=text))
    return warnings
