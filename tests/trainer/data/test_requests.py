"""Requests on indices, against cases worked out by hand."""

import numpy as np
import polars as pl
import pytest
import tensorflow as tf

from serving import contract
from tests.trainer.tiny import tiny_dataset
from trainer.data.catalogue import Catalogue
from trainer.data.query_features import QUERY_FEATURES, user_profiles
from trainer.data.requests import Requests, request_batch_signature, vocabulary_indices
from trainer.data.vocabulary import Vocabulary
from trainer.evaluation.protocols.holdout import HoldOut


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return Catalogue.from_dataset(tiny_dataset(tmp_path_factory.mktemp("tiny") / "data"))


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary(["u1", "u2"], [], [], {"language": ["ko", "pt-BR"], "country": ["BR"]}, {}, {}, ["rating"])


POSITIVES = pl.DataFrame(
    {
        "user_id": ["u1", "u2", "u1", "u9"],
        "item_id": ["i3", "i5", "i1", "i2"],
        "timestamp": [30, 10, 20, 5],
    }
)
PROFILES = pl.DataFrame(
    {"user_id": ["u1", "u9"], "profile_language": ["ko", "pt-BR"], "profile_country": [None, "BR"]},
    schema={"user_id": pl.String, "profile_language": pl.String, "profile_country": pl.String},
)


def rows(catalogue: Catalogue, *ids: str) -> list[int]:
    return [catalogue.item_ids.index(item) for item in ids]


def test_who_asks_when_in_which_language(catalogue: Catalogue, vocabulary: Vocabulary) -> None:
    moments = pl.DataFrame(
        {"user_id": ["u1", "u1", "u9"], "timestamp": [99, 50, 60], "language": ["pt-BR", None, "ko"]},
        schema={"user_id": pl.String, "timestamp": pl.Int64, "language": pl.String},
    )
    users = ["u9", "u1", "nobody"]
    requests = Requests.of_users(users, POSITIVES, catalogue, vocabulary, profiles=PROFILES, moments=moments)
    assert len(requests) == 3
    assert requests.users.tolist() == [0, 1, 0]
    # u9's first event is in Korean; u1's has no language, so the profile's counts.
    assert requests.features["language"].tolist() == [1, 1, 0]
    assert requests.features["country"].tolist() == [1, 0, 0]
    assert requests.timestamps.tolist() == [60, 50, 0]
    assert requests.histories.indptr.tolist() == [0, 1, 3, 3]
    assert requests.histories.items.tolist() == rows(catalogue, "i2", "i1", "i3")
    unknown = Requests.of_users(users, POSITIVES, catalogue, vocabulary, known=False, profiles=PROFILES)
    assert unknown.users.tolist() == [0, 0, 0]
    assert unknown.features["language"].tolist() == [2, 1, 0]
    assert unknown.timestamps.tolist() == [0, 0, 0]


def test_runs_of_requests_and_their_batches(catalogue: Catalogue, vocabulary: Vocabulary) -> None:
    requests = Requests.of_users(["u9", "u1", "u2"], POSITIVES, catalogue, vocabulary, profiles=PROFILES)
    assert requests.histories.newest(2).tolist() == [
        [*rows(catalogue, "i2"), -1],
        rows(catalogue, "i3", "i1"),
        [*rows(catalogue, "i5"), -1],
    ]
    assert requests.histories.newest(1)[:, 0].tolist() == rows(catalogue, "i2", "i3", "i5")
    part = requests[1:3]
    assert part.histories.newest(2).tolist() == requests.histories.newest(2)[1:].tolist()
    assert part.histories.padded().tolist() == [rows(catalogue, "i3", "i1"), [*rows(catalogue, "i5"), -1]]
    assert len(requests[3:9]) == 0
    assert requests[0:0].histories.newest(4).shape == (0, 4)
    batch = requests.and_nobody().at(np.array([3, 1, 1])).batch(2)
    assert batch["history"].numpy().tolist() == [[-1, -1], *[rows(catalogue, "i3", "i1")] * 2]
    assert batch["user"].numpy().tolist() == [0, 1, 1]
    assert batch["features"]["language"].numpy().tolist() == [0, 1, 1]
    assert batch["text"].numpy().tolist() == [-1] * 3
    signature = request_batch_signature(2)
    specs, values = tf.nest.flatten(signature), tf.nest.flatten(batch)
    assert all(spec.is_compatible_with(value) for spec, value in zip(specs, values, strict=True))
    assert list(signature) == list(batch)


def test_no_history_at_all() -> None:
    nobody = Requests.of_nobody(2)
    assert nobody.histories.newest(3).tolist() == [[-1] * 3] * 2
    assert nobody.histories.padded().shape == (2, 0)


@pytest.mark.parametrize("columns", [["a"], ["b", "a"], ["missing", "a"]])
def test_the_first_text_that_is_there_counts(columns: list[str]) -> None:
    table = pl.DataFrame({"a": ["x", "y", None], "b": [None, "x", None]}, schema={"a": pl.String, "b": pl.String})
    expected = {"a": [1, 2, 0], "b": [1, 1, 0]}[columns[0] if columns[0] != "missing" else "a"]
    assert vocabulary_indices(table, columns, {"x": 1, "y": 2}).tolist() == expected
    assert vocabulary_indices(table, columns, {}).tolist() == [0, 0, 0]


def test_profiles_are_read_where_there_are_any(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> None:
    dataset = tiny_dataset(tmp_path_factory.mktemp("profiles") / "data")
    profiles = user_profiles(dataset)
    languages = dict(profiles.select("user_id", "profile_language").iter_rows())
    assert [languages[f"u{user}"] for user in range(4)] == ["ko", "en", "en", "ko"]


def test_validation_asks_as_the_users_would(catalogue: Catalogue, vocabulary: Vocabulary) -> None:
    held_out = pl.DataFrame({"user_id": ["u1", "u1"], "item_id": ["i7", "i9"], "timestamp": [80, 70]})
    hold_out = HoldOut(catalogue, vocabulary, POSITIVES, held_out, candidates=5, profiles=PROFILES)
    assert hold_out.requests.features["language"].tolist() == [1]
    assert hold_out.requests.timestamps.tolist() == [70]


def test_features_are_inputs_of_the_signatures() -> None:
    assert {feature.name for feature in QUERY_FEATURES} <= set(contract.QUERY_INPUTS)
