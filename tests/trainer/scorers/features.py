"""Item features for scorers, which read few of them."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.data.item_table import ItemFeatures


def with_neighbours(weights: npt.ArrayLike) -> ItemFeatures:
    """Of n items with these weights [n, V] of all V known ones, in reverse order."""
    dense = np.asarray(weights, np.float32)
    places = np.broadcast_to(np.arange(dense.shape[1])[::-1], dense.shape)
    return {  # type: ignore[typeddict-item]
        "neighbours": tf.constant(places, tf.int32),
        "neighbour_weights": tf.constant(dense[:, ::-1]),
    }
