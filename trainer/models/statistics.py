"""What a run has learned about its catalogue as a whole, besides its weights: kept, so that a re-index needs no more.

A later catalogue is compared by the means, principal directions and weights of n-grams of the one that the model was
trained on. They are stored in the run directory when they are first known, and belong to its weights and data.
"""

import errno
import hashlib
import json
import logging
import zipfile
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trainer.data.category_names import names_digest
from trainer.files import atomic_file
from trainer.models.text_search import SearchStatistics, TowerMoments
from trainer.runs import Run
from trainer.text.language_means import LanguageMeans
from trainer.text.lexical import GramStatistics
from trainer.towers.content import Content, ContentSpace
from trainer.towers.relations import RelationStatistics

STATISTICS_FILE: Final = "statistics.npz"
# Raised when the content of the file, or how it is computed, changes.
_SCHEMA: Final = 1
_LOG = logging.getLogger(__name__)
_Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class RunStatistics:
    """Statistics of the catalogue that a run's model was trained on.

    Attributes:
        relations: What items are compared with by their content; None: they aren't.
        search: Those of text search; None: it is off.
    """

    relations: RelationStatistics | None
    search: SearchStatistics | None


def save_statistics(run: Run, statistics: RunStatistics) -> None:
    """Stores them in the run directory, if it can be written."""
    relations, search = statistics.relations, statistics.search
    arrays: _Arrays = {"key": np.array(_key(run)), "parts": np.array([relations is not None, search is not None])}
    if relations is not None:
        arrays |= _relations_to_arrays(relations)
    if search is not None:
        arrays |= _search_to_arrays(search)
    try:
        with atomic_file(run.path / STATISTICS_FILE) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        # An export needs to read the run alone.
        _LOG.warning("The run's statistics can't be stored (%s); a re-index computes them each time.", error)


def load_statistics(run: Run) -> RunStatistics | None:
    """The stored statistics; None if there are none, or of other weights or data, or damaged ones."""
    path = run.path / STATISTICS_FILE
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["key"]) != _key(run):
                _LOG.info("%s is of other weights or data; computing the statistics again.", path)
                return None
            arrays = {name: file[name] for name in file.files}
        has_relations, has_search = arrays["parts"].tolist()
        return RunStatistics(
            relations=_relations_from_arrays(arrays) if has_relations else None,
            search=_search_from_arrays(arrays) if has_search else None,
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        _LOG.warning("%s is damaged (%s); computing the statistics again.", path, error)
        return None


def _key(run: Run) -> str:
    """What the statistics depend on."""
    config = run.config
    # Where the data is doesn't matter: their fingerprint counts.
    settings = config.model_dump(mode="json", include={"seed", "data", "text", "model"}, exclude={"data": {"source"}})
    facts = [_SCHEMA, run.weights_digest(), run.read("data.json")["fingerprint"], settings]
    return hashlib.sha256(json.dumps([*facts, names_digest(config.data.category_names)]).encode()).hexdigest()


def _relations_to_arrays(relations: RelationStatistics) -> _Arrays:
    known = relations.known
    crowding: _Arrays = {} if relations.crowding is None else {"crowding": relations.crowding}
    return crowding | {
        "known_text": known.text,
        "known_categories": known.categories,
        "known_years": known.year,
        "space_categories": known.space.categories,
        **_means_to_arrays("space", known.space.languages),
    }


def _relations_from_arrays(arrays: _Arrays) -> RelationStatistics:
    space = ContentSpace(_means_from_arrays("space", arrays), arrays["space_categories"])
    known = Content(space, arrays["known_text"], arrays["known_categories"], arrays["known_years"])
    return RelationStatistics(known, arrays.get("crowding"))


def _search_to_arrays(search: SearchStatistics) -> _Arrays:
    return {
        **_means_to_arrays("text", search.means),
        "common_of_labels": search.common,
        "popularity_spread": np.array(search.spread, np.float64),
        "gram_weights": search.grams.weights,
        "gram_mean_length": np.array(search.grams.mean_length, np.float64),
        "projection": search.projection,
        "tower_mean": search.towers.mean,
        "tower_covariance": search.towers.covariance,
    }


def _search_from_arrays(arrays: _Arrays) -> SearchStatistics:
    mean, deviation = arrays["popularity_spread"].tolist()
    return SearchStatistics(
        means=_means_from_arrays("text", arrays),
        common=arrays["common_of_labels"],
        spread=(mean, deviation),
        grams=GramStatistics(arrays["gram_weights"], float(arrays["gram_mean_length"])),
        projection=arrays["projection"],
        towers=TowerMoments(arrays["tower_mean"], arrays["tower_covariance"]),
    )


def _means_to_arrays(name: str, means: LanguageMeans) -> _Arrays:
    return {f"{name}_languages": np.array(means.languages, np.str_), f"{name}_means": means.means}


def _means_from_arrays(name: str, arrays: _Arrays) -> LanguageMeans:
    return LanguageMeans(arrays[f"{name}_languages"].tolist(), arrays[f"{name}_means"])
