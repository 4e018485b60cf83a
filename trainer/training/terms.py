"""Additional losses of a training step: translation alignment, two views of an item, adversarial."""

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.errors import BabelrecError
from trainer.imports import imported
from trainer.models.further import TrainingStep
from trainer.models.recommender import Recommender
from trainer.training.adversarial import fgm_loss, vat_loss
from trainer.training.contrastive import info_nce
from trainer.training.settings import AdversarialConfig, AlignmentConfig, AugmentationConfig

Term = Callable[[TrainingStep], tf.Tensor]


class Terms:
    """The sum of weighted terms."""

    def __init__(self, terms: Sequence[tuple[float, Term]]) -> None:
        self._terms = list(terms)

    def __call__(self, step: TrainingStep) -> tf.Tensor:
        """A scalar."""
        return tf.add_n([weight * term(step) for weight, term in self._terms])


def own_loss(path: str) -> Callable[[Recommender], object]:
    """The factory of a user-defined loss, by its import path, such as ``my_package.losses:spread``.

    Raises:
        BabelrecError: the path is not that of a function.
    """
    return imported(path, Callable, setting="training.own_losses")  # type: ignore[arg-type]


def own_term(path: str, model: Recommender) -> Term:
    """Creates the loss at an import path for a model.

    Raises:
        BabelrecError: the path is not that of a function, or the function returns no term.
    """
    term = own_loss(path)(model)
    if not callable(term):
        raise BabelrecError(
            f"training.own_losses: {path} returned a {type(term).__name__} for a model. Remedy: return a function from "
            "a training step to a scalar."
        )
    return cast("Term", term)


class AlignmentTerm:
    """InfoNCE between the two texts of pairs, sampled at each step.

    In the shared space both sides go through conversion, noise and projection, as items' texts do. In the
    text space they are compared after conversion to the pivot and, if neither language is the pivot,
    also after conversion of each to the other's language, so that the maps of all targets are trained.

    Args:
        model: Its candidate tower reads the texts.
        first: [P, ...], texts in the form of the item table.
        second: The same.
        languages: Int32 [P, 2], vocabulary indices of both sides.
        groups: Int32 [P, 2], equal numbers for equal texts of a side: two pairs that share a text are
            not negatives of each other.
        config: Space, temperature, pairs per step.
    """

    def __init__(
        self,
        model: Recommender,
        first: tf.Tensor,
        second: tf.Tensor,
        languages: npt.NDArray[np.int32],
        groups: npt.NDArray[np.int32],
        config: AlignmentConfig,
    ) -> None:
        self._tower = model.candidate_tower
        with tf.device("CPU:0"):
            self._first = tf.Variable(first, trainable=False)
            self._second = tf.Variable(second, trainable=False)
            self._languages = tf.constant(languages)
            self._groups = tf.constant(groups)
        self._config = config

    def __call__(self, step: TrainingStep) -> tf.Tensor:
        """The loss on a sample of pairs."""
        total = int(self._groups.shape[0])
        count = min(self._config.batch_size, total)
        # Without repeats: the smallest of random keys.
        places = tf.math.top_k(tf.random.uniform([total]), count, sorted=False).indices
        one, two = tf.gather(self._first, places), tf.gather(self._second, places)
        languages, groups = tf.gather(self._languages, places), tf.gather(self._groups, places)
        if self._config.space == "shared":
            return self._loss(
                self._tower.read(one, languages[:, 0], True), self._tower.read(two, languages[:, 1], True), groups
            )
        one, two = self._tower.text_vectors(one), self._tower.text_vectors(two)
        pivoted = self._loss(
            self._tower.convert(one, languages[:, 0]), self._tower.convert(two, languages[:, 1]), groups
        )
        conversion = self._tower.conversion
        if conversion is None:
            return pivoted
        forth = self._loss(conversion(one, languages[:, 0], languages[:, 1]), two, groups)
        back = self._loss(conversion(two, languages[:, 1], languages[:, 0]), one, groups)
        return (pivoted + forth + back) / 3.0

    def _loss(self, one: tf.Tensor, two: tf.Tensor, groups: tf.Tensor) -> tf.Tensor:
        return info_nce(one, two, self._config.temperature, groups)


class TwoViewsTerm:
    """InfoNCE between two views of items (Yao et al., 2020, arXiv 2007.12865, eq. 2 and 3).

    A view is the item's content with features dropped and texts chosen at random, without its id: with the same
    probabilities as in regular training (`feature_dropout`, `text_noise`, `training.augmentation`). Items are drawn
    uniformly, so that rare ones are trained as much as popular ones.

    Args:
        model: Its item table provides the views.
        rows: Int32 [M], items to draw from.
        config: Temperature and items per step.
    """

    def __init__(self, model: Recommender, rows: npt.NDArray[np.int32], config: AugmentationConfig) -> None:
        self._model = model
        self._rows = tf.constant(rows)
        self._config = config

    def __call__(self, step: TrainingStep) -> tf.Tensor:
        """The loss on a sample of items."""
        draws = tf.random.uniform([self._config.items], 0, tf.size(self._rows), tf.int32)
        rows = tf.gather(self._rows, draws)
        views = [self._model.candidate_tower.content(self._model.items(rows, True), True) for _ in range(2)]
        return info_nce(views[0], views[1], self._config.temperature, rows[:, tf.newaxis])


class AdversarialTerm:
    """The retrieval task under adversarial perturbation of the items' sentence or candidate vectors.

    Args:
        model: The towers.
        config: Method, location and size of the perturbation.
    """

    def __init__(self, model: Recommender, config: AdversarialConfig) -> None:
        self._tower = model.candidate_tower
        self._temperature = model.config.retrieval.temperature
        self._config = config

    def __call__(self, step: TrainingStep) -> tf.Tensor:
        """FGM's loss or VAT's divergence."""
        at_text = self._config.at == "text"
        if at_text:
            inputs = step.features["text"]
        elif self._config.method == "vat":
            # VAT uses no dropout.
            inputs = self._tower(step.features)
        else:
            inputs = step.vectors

        def vectors_of(moved: tf.Tensor, training: bool) -> tf.Tensor:
            if not at_text:
                return moved
            return self._tower({**step.features, "text": moved}, training=training)

        def loss_of(moved: tf.Tensor) -> tf.Tensor:
            return step.retrieval_loss(*step.queries_and_candidates(vectors_of(moved, True), True))

        def logits_of(moved: tf.Tensor) -> tf.Tensor:
            queries, candidates = step.queries_and_candidates(vectors_of(moved, False), False)
            return tf.matmul(queries, candidates, transpose_b=True) / self._temperature

        if self._config.method == "fgm":
            return fgm_loss(inputs, loss_of, self._config.epsilon)
        return vat_loss(inputs, logits_of, self._config.epsilon)
