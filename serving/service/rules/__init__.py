"""Business rules: what a shop decides about its lists, in YAML.

`parsing` has the form of a document, `predicate_parsing` that of conditions, `predicates` and `columns` what they mean,
and `applying` the order in which rules are applied.
"""

from serving.service.rules.adding import addable
from serving.service.rules.applying import Chooser, apply, by_score, pinned_items
from serving.service.rules.candidates import Candidate, MissedPin, Outcome, Placed, Removal, Touch
from serving.service.rules.columns import columns_of
from serving.service.rules.errors import RulesError
from serving.service.rules.kinds import Block, Boost, Bury, Cap, Context, Freshness, Pin, Rule, Rules, Scope
from serving.service.rules.linting import LintWarning, lint
from serving.service.rules.parsing import parse_rules, rules_from

__all__ = [
    "Block",
    "Boost",
    "Bury",
    "Candidate",
    "Cap",
    "Chooser",
    "Context",
    "Freshness",
    "LintWarning",
    "MissedPin",
    "Outcome",
    "Pin",
    "Placed",
    "Removal",
    "Rule",
    "Rules",
    "RulesError",
    "Scope",
    "Touch",
    "addable",
    "apply",
    "by_score",
    "columns_of",
    "lint",
    "parse_rules",
    "pinned_items",
    "rules_from",
]
