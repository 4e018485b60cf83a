"""Item features for scorers, which read few of them."""

import tensorflow as tf

from trainer.data.item_table import ItemFeatures


def with_neighbours(weights: tf.Tensor) -> ItemFeatures:
    return {"neighbours": tf.convert_to_tensor(weights)}  # type: ignore[typeddict-item]
