"""The cross-lingual options of a run: their data and their part in the model.

With every option off, nothing is read and the model is unchanged. See docs/crosslingual.md.
"""

import functools
import logging
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.languages import UNDETERMINED
from trainer.data.sources import prepare
from trainer.data.split import Split
from trainer.data.variants import TextVariants, single_fields, translations, with_words_dropped
from trainer.data.vocabulary import UNKNOWN, Vocabulary, index_of
from trainer.errors import BabelrecError
from trainer.evaluation.protocols.aligned_titles import aligned_titles
from trainer.files import atomic_file
from trainer.models.assembly import text_inputs
from trainer.models.recommender import Recommender
from trainer.runs import Run
from trainer.text.alignment import TextPairs, co_consumed_texts, parallel_texts
from trainer.text.vectors import encode_texts
from trainer.training.terms import AdversarialTerm, AlignmentTerm, Term, Terms, TwoViewsTerm, own_term

if TYPE_CHECKING:
    from trainer.text.cooccurrence import CoOccurrence

_LOG = logging.getLogger(__name__)


def alignment_pairs(config: Config, dataset: Dataset, catalogue: Catalogue) -> tuple[TextPairs, TextPairs]:
    """Parallel texts of the run's dataset, or of ``training.alignment.source``: (training, held out).

    The division depends only on the run's seed and the items, so that runs with and without alignment
    can be evaluated on the same pairs.

    Raises:
        BabelrecError: there are no parallel texts.
    """
    settings = config.training.alignment
    if settings.source is not None:
        dataset = prepare(settings.source)
        catalogue = Catalogue.from_dataset(dataset)
    pairs = parallel_texts(catalogue, translations(dataset, catalogue))
    if not len(pairs):
        raise BabelrecError(
            f"{dataset.name} has no texts in two languages. Remedy: kmrd with title_language: both, mind with xMIND "
            "files, a translations table, or another dataset as training.alignment.source."
        )
    return pairs.hold_out(settings.hold_out, config.seed)


class CrossLingual:
    """The data of the cross-lingual options, from one training part.

    Args:
        config: The run's settings.
        dataset: The data.
        catalogue: Its items.
        parts: Only ``parts.train`` is read.

    Raises:
        BabelrecError: an enabled option is not supported by the data.
    """

    def __init__(self, config: Config, dataset: Dataset, catalogue: Catalogue, parts: Split) -> None:
        self._config = config
        self._dataset, self._catalogue, self._parts = dataset, catalogue, parts
        training = config.training
        conversion = config.model.conversion
        aligned = training.alignment.weight > 0.0
        self._rotates = conversion.rotates
        self._aligned = aligned
        fixed = conversion.bottleneck is None and config.text.tuning.mode == "frozen"
        if aligned and training.alignment.space == "text" and fixed:
            raise BabelrecError(
                "training.alignment.space is `text`, where nothing is trained. Remedy: set "
                "model.conversion.bottleneck, train a part of the encoder (text.tuning.mode), or use `shared`."
            )
        if training.adversarial.method and training.adversarial.at == "text" and config.text.tuning.mode != "frozen":
            raise BabelrecError(
                "training.adversarial.at is `text`, which perturbs a frozen encoder's vectors, and text.tuning.mode "
                f"is {config.text.tuning.mode!r}. Remedy: set training.adversarial.at to `candidate`."
            )
        self._pairs, self._held = TextPairs.none(), TextPairs.none()
        if config.learns_from_pairs:
            self._pairs, self._held = alignment_pairs(config, dataset, catalogue)
            if training.alignment.co_consumed is not None:
                self._pairs += co_consumed_texts(catalogue, self._together, training.alignment.co_consumed)
            if not len(self._pairs):
                raise BabelrecError(
                    f"training.alignment.hold_out is {training.alignment.hold_out:g}, which leaves none of the "
                    f"{len(self._held)} pairs of texts to train on. Lower it."
                )
            _LOG.info("%d text pairs to align, %d held out.", len(self._pairs), len(self._held))
        self.variants = self._variants()

    @property
    def languages(self) -> list[str]:
        """Languages of training texts other than the items' own."""
        return sorted({*self.variants.languages, *self._pairs.languages()} - {UNDETERMINED})

    def enter(self, model: Recommender, vocabulary: Vocabulary) -> None:
        """Sets the options' initial weights and adds their losses; call before restoring a checkpoint.

        Args:
            model: Built, at its initial weights.
            vocabulary: The model's vocabulary.
        """
        training = self._config.training
        tower = model.candidate_tower
        shown = {*self._catalogue.languages, *self.variants.languages}
        tower.forget_languages([place for place, tag in enumerate(vocabulary.languages, 1) if tag not in shown])
        if tower.affinity is not None:
            place = index_of(self._together.languages)
            vectors = self._together.language_vectors(self._config.model.candidate.language_affinity)
            padded = np.concatenate([np.zeros((1, vectors.shape[1])), vectors])
            tower.affinity.set_vectors(padded[[place.get(tag, UNKNOWN) for tag in vocabulary.languages]])
        if self._rotates and tower.conversion is not None:
            tower.conversion.set_linear_maps(self._rotations(tower.conversion.languages[tower.conversion.pivot - 1]))
        terms: list[tuple[float, Term]] = []
        if self._aligned:
            terms.append((training.alignment.weight, self._alignment(model, vocabulary)))
        if training.augmentation.self_supervised > 0.0:
            rows = np.unique(self._catalogue.rows(self._parts.train["item_id"]))
            terms.append((training.augmentation.self_supervised, TwoViewsTerm(model, rows, training.augmentation)))
        if training.adversarial.method is not None:
            terms.append((training.adversarial.weight, AdversarialTerm(model, training.adversarial)))
        terms += [(own.weight, own_term(own.path, model)) for own in training.own_losses]
        if terms:
            model.add_terms(Terms(terms))

    def report(
        self, model: Recommender, vocabulary: Vocabulary, run: Run, writer: tf.summary.SummaryWriter, step: int
    ) -> None:
        """Writes accuracy@1 on held-out pairs and the plot of affinities, each if its option is on.

        Args:
            model: The trained model.
            vocabulary: The model's vocabulary.
            run: ``alignment.json`` and ``language_affinities.png`` are written to it.
            writer: TensorBoard writer, for the same.
            step: Epoch of the results.
        """
        with writer.as_default():
            if len(self._held) > 1:
                found = aligned_titles(model, vocabulary, self._config.text, self._held)
                run.write("alignment.json", found)
                for name, value in found.items():
                    tf.summary.scalar(f"alignment/{name}", value, step=step)
            if model.candidate_tower.affinity is not None:
                from trainer.text.cooccurrence import affinity_plot

                together = self._together
                picture = affinity_plot(together.languages, together.affinities(), together.counts)
                with atomic_file(run.path / "language_affinities.png") as temporary:
                    temporary.write_bytes(picture)
                tf.summary.image("language_affinities", tf.io.decode_png(picture, 3)[tf.newaxis], step=step)

    @functools.cached_property
    def _together(self) -> "CoOccurrence":
        # Only runs that count load SciPy.
        from trainer.text.cooccurrence import CoOccurrence

        return CoOccurrence.from_training(self._parts.train, self._catalogue)

    def _variants(self) -> TextVariants:
        settings = self._config.training.augmentation
        found = TextVariants.none()
        if settings.random_language:
            found = translations(self._dataset, self._catalogue)
            if not len(found):
                raise BabelrecError(
                    f"training.augmentation.random_language is set, and {self._dataset.name} has no translations. "
                    "Remedy: kmrd with title_language: both, mind with xMIND files, or a translations table."
                )
        translated = found
        if settings.token_dropout > 0.0:
            found += with_words_dropped(
                self._catalogue, translated, settings.token_dropout, settings.token_views, self._config.seed
            )
        if settings.single_fields:
            found += single_fields(self._dataset, self._catalogue)
        return found

    def _rotations(self, pivot: str) -> dict[tuple[str, str], npt.NDArray[np.float64]]:
        """A rotation to the pivot from each language with training pairs in both."""
        from trainer.text.cooccurrence import anchored_procrustes

        found = {}
        text = self._config.text
        for pair in self._pairs.language_pairs():
            if pivot not in pair:
                continue
            other = next(tag for tag in pair if tag != pivot)
            source, target = self._pairs.of_languages(other, pivot)
            found[other, pivot] = anchored_procrustes(
                encode_texts(source, text), encode_texts(target, text), self._config.model.conversion.anchor
            )
        if not found:
            raise BabelrecError(
                f"model.conversion.start is `procrustes`, and no text pair links a language with the pivot "
                f"{pivot!r}. Remedy: choose another model.conversion.pivot, or start from `identity`."
            )
        return found

    def _alignment(self, model: Recommender, vocabulary: Vocabulary) -> AlignmentTerm:
        pairs, text = self._pairs, self._config.text
        index = index_of(vocabulary.languages)
        languages = [
            [index.get(tag, UNKNOWN) for tag in both]
            for both in zip(pairs.first_languages, pairs.second_languages, strict=True)
        ]
        groups = [np.unique(side, return_inverse=True)[1] for side in (pairs.first, pairs.second)]
        return AlignmentTerm(
            model,
            text_inputs(pairs.first, pairs.first_languages, text),
            text_inputs(pairs.second, pairs.second_languages, text),
            np.array(languages, np.int32),
            # The second side has separate numbers: the two sides are never compared.
            np.stack([groups[0], groups[1] + len(pairs)], axis=1).astype(np.int32),
            self._config.training.alignment,
        )
