"""What is chosen after what, in the served graph: it orders items as the evaluation does."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serving import contract
from tests.trainer.export.options_run import ITEMS, options_run
from tests.trainer.export.test_export import Answer, asker, ids
from trainer.data.catalogue import Catalogue
from trainer.data.split import split
from trainer.data.vocabulary import Vocabulary
from trainer.errors import BabelrecError
from trainer.evaluation.protocols.collaborative import evaluate_collaborative
from trainer.evaluation.protocols.holdout import HoldOut
from trainer.export.export import export
from trainer.export.shards import export_shards
from trainer.models.assembly import load_recommender
from trainer.runs import Run

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("transitions")
    settings = {
        "dimension": 8,
        "linear": {"rank": 6},
        "candidate": {"popularity": True},
        "content": {"enabled": True},
        "query": {"history_length": 12},
        "ranking": {"transitions": {"successors": 50, "history": 6}},
    }
    return options_run(
        folder,
        {"*": ["nfkc"]},
        model=settings,
        export={"index": "brute_force", "candidates": ITEMS + 1, "fresh_items": True},
    )


@pytest.fixture(scope="module")
def ask(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Answer]:
    return asker(export(run, tmp_path_factory.mktemp("models") / "following"))


def test_the_graph_orders_as_the_evaluation_does(run: Run, ask: Callable[..., Answer]) -> None:
    dataset, model = run.dataset(), load_recommender(run)
    catalogue, parts = Catalogue.from_dataset(dataset), split(dataset, run.config.data)
    vocabulary = Vocabulary.load(run.vocabulary)
    hold_out = HoldOut(
        catalogue, vocabulary, parts.train_and_validation, parts.test, candidates=ITEMS + 1, known_users=False
    )
    ranker = hold_out.ranker(model, model.items, {"retrieval": 1.0})
    alone, followed = (
        hold_out.rankings(ranker.blended(weights), 10) for weights in ({"retrieval": 1.0}, run.read("blend.json"))
    )
    assert (alone != followed).any(axis=1).mean() > 0.5, "the signal counts"
    names = np.array(catalogue.item_ids)
    unranked = sorted(set(names) - set(names[hold_out.candidate_rows]))
    some = range(0, len(hold_out.user_ids), 4)
    requests = hold_out.requests
    histories = [names[requests.histories.of_user(user)].tolist() for user in some]
    answer = ask(
        history=histories,
        timestamp=[int(requests.timestamps[user]) for user in some],
        exclude=[history + unranked for history in histories],
        include_seen=[True] * len(histories),
    )
    for line, user in enumerate(some):
        assert ids(answer, line) == names[hold_out.candidate_rows[followed[user]]].tolist()


def test_given_items_have_the_scores_of_the_list(run: Run, ask: Callable[..., Answer]) -> None:
    catalogue = Catalogue.from_dataset(run.dataset())
    history = catalogue.item_ids[:5]
    answer = ask(history=[history], k=[20])
    listed = ids(answer, 0)
    ranked = ask(signature=contract.RANK, history=[history], item_ids=[[*listed, "never seen"]])
    np.testing.assert_allclose(ranked["scores"][0, :20], answer["scores"][0, :20], rtol=1e-4)


def test_evaluation_tells_what_ranking_adds(run: Run) -> None:
    report = evaluate_collaborative(run)
    alone = report.baselines[0]
    assert alone.model == "retrieval alone"
    assert alone.metrics["ndcg@10"].value != report.metrics["ndcg@10"].value
    gain = report.metrics["ndcg@10"].value - alone.metrics["ndcg@10"].value
    assert alone.advantage["ndcg@10"].value == pytest.approx(gain, abs=1e-9)


def test_shards_refuse_it(run: Run, tmp_path: Path) -> None:
    with pytest.raises(BabelrecError, match=r"can't rank by transitions.*successors=0"):
        export_shards(Run.open(run.path, ["export.shards=2"]), tmp_path / "shards")
