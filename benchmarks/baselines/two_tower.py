"""The two towers of TFRS's tutorial "basic retrieval": one embedding per user and item, in-batch softmax.

https://www.tensorflow.org/recommenders/examples/basic_retrieval
"""

import numpy as np

from benchmarks.baselines.problem import Problem, dot_products
from benchmarks.baselines.settings import Baseline
from trainer.config.base import Settings
from trainer.evaluation.metrics.ranking import BlockScorer


class TwoTowerSettings(Settings):
    """Settings; the tutorial uses 32 dimensions, Adagrad at 0.1, batches of 8,192 and 3 epochs."""

    dimension: int = 32
    learning_rate: float
    batch_size: int
    epochs: int


def _two_tower(problem: Problem, settings: TwoTowerSettings, seed: int) -> BlockScorer:
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

    class TwoTower(tfrs.Model):
        def __init__(self) -> None:
            super().__init__()
            self.users = tf.keras.layers.Embedding(len(problem.learners), settings.dimension)
            self.items = tf.keras.layers.Embedding(problem.learners.num_items, settings.dimension)
            self.task = tfrs.tasks.Retrieval()

        def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
            # The metrics over the whole catalogue would take most of the time.
            return self.task(self.users(features["user"]), self.items(features["item"]), compute_metrics=False)

    tf.keras.utils.set_random_seed(seed)
    model = TwoTower()
    model.compile(optimizer=tf.keras.optimizers.Adagrad(settings.learning_rate))
    users = np.repeat(np.arange(len(problem.learners)), np.diff(problem.learners.indptr))
    # Arrays, not a tf.data pipeline: Keras then gathers whole batches instead of single pairs.
    pairs = {"user": users, "item": problem.learners.items}
    model.fit(pairs, batch_size=settings.batch_size, epochs=settings.epochs, shuffle=True, verbose=0)
    user_vectors, item_vectors = model.users.embeddings.numpy(), model.items.embeddings.numpy()
    evaluated = problem.user_vectors(user_vectors, lambda rows: problem.mean_of_history(item_vectors, rows))
    return dot_products(evaluated, item_vectors)


TWO_TOWER = Baseline("two-tower (TFRS tutorial)", TwoTowerSettings, _two_tower)
