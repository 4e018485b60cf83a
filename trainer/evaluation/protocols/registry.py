"""The protocols of `evaluate`, also used for the command line and docs/evaluation.md.

Nothing heavy is imported here: a protocol's own code is imported when it runs.
"""

import importlib
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from trainer.config.settings import Config
from trainer.errors import BabelrecError

if TYPE_CHECKING:
    from trainer.evaluation.report.contents import EvaluationReport
    from trainer.runs import Run


class Target(Enum):
    """Whether a protocol evaluates on another dataset, given by `--target`."""

    REFUSED = "the run's own data"
    OPTIONAL = "the run's own data, or that of `--target`"
    REQUIRED = "the data of `--target`"


@dataclass(frozen=True, slots=True)
class Protocol:
    """An evaluation of a run.

    Attributes:
        name: `p1`, as on the command line.
        title: What it measures, in a few words.
        help: The same for `--help`.
        target: The data it evaluates on.
        function: Import path of (run) -> report; with a target (run, target's config) -> report.
    """

    name: str
    title: str
    help: str
    target: Target
    function: str

    def evaluate(self, run: "Run", target: Config | None) -> "EvaluationReport":
        """Evaluates a run.

        Raises:
            BabelrecError: a target is missing or not allowed, or the protocol can't be applied.
        """
        if self.target is Target.REQUIRED and target is None:
            raise BabelrecError(f"{self.name} needs --target, for example --target configs/kmrd.yaml.")
        if self.target is Target.REFUSED and target is not None:
            others = " or ".join(each.name for each in PROTOCOLS.values() if each.target is not Target.REFUSED)
            raise BabelrecError(f"{self.name} evaluates the run on its own data; --target needs --protocol {others}.")
        module, _, name = self.function.partition(":")
        evaluate = getattr(importlib.import_module(module), name)
        report: EvaluationReport = evaluate(run) if self.target is Target.REFUSED else evaluate(run, target)
        return report

    def stem(self, report: "EvaluationReport", target: Config | None) -> str:
        """Base name of the report's files: `evaluation` for the default protocol, else with protocol and data."""
        if self.name == DEFAULT:
            return "evaluation"
        measured_on = target.name if self.target is Target.REQUIRED and target is not None else report.dataset
        return f"evaluation-{self.name}-{measured_on}"


DEFAULT = "p1"
_HERE = "trainer.evaluation.protocols"
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "p1",
            "Collaborative quality",
            "the run's own test part, ranked against the whole catalogue",
            Target.REFUSED,
            f"{_HERE}.collaborative:evaluate_collaborative",
        ),
        Protocol(
            "p2",
            "Zero-shot quality",
            "users and items of a dataset that the model has never seen",
            Target.REQUIRED,
            f"{_HERE}.zero_shot:evaluate_zero_shot",
        ),
        Protocol(
            "p3",
            "News impressions",
            "the impressions of the run's own test part, by language",
            Target.REFUSED,
            f"{_HERE}.impressions:evaluate_impressions",
        ),
        Protocol(
            "p4",
            "Text encoder",
            "the text encoder on parallel titles in two languages",
            Target.OPTIONAL,
            f"{_HERE}.parallel_titles:evaluate_translations",
        ),
        Protocol(
            "p5",
            "Does learning on pay?",
            "the positives of each window of time, by models frozen, updated and retrained before it",
            Target.REFUSED,
            f"{_HERE}.prequential:evaluate_prequential",
        ),
    )
}
"""Name -> protocol."""
