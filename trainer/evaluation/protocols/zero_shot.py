"""P2: the run's model on the items and users of an unseen dataset."""

from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.sources import prepare
from trainer.data.split import split
from trainer.errors import BabelrecError
from trainer.evaluation.protocols.collaborative import evaluate_on_catalogue, with_test_part
from trainer.evaluation.report.contents import EvaluationReport
from trainer.runs import Run


def evaluate_zero_shot(run: Run, target: Config) -> EvaluationReport:
    """Zero-shot: the run's model on the items and users of another dataset.

    The model knows no ids of the target: a query is a history of items placed by their content, and
    so are the candidates. The target's interactions are used only for queries and baselines.

    Args:
        run: A finished run.
        target: Config of the other dataset, its positives and its split.

    Raises:
        BabelrecError: the target is the run's own training data.
    """
    dataset = prepare(target.data.source)
    if dataset.fingerprint == run.dataset().fingerprint:
        raise BabelrecError(
            f"{dataset.name} is the data that {run.path} was trained on, so nothing would be zero-shot. "
            "Give the config of another dataset with --target."
        )
    catalogue = Catalogue.from_dataset(dataset)
    return evaluate_on_catalogue(
        run,
        dataset,
        catalogue,
        with_test_part(split(dataset, target.data), dataset),
        protocol="P2",
        known_users=False,
    )
