"""mUSE up to its pooling: the part kept frozen while the layers after it are trained."""

import tensorflow as tf

from trainer.text.muse import Muse


class MuseTrunk(Muse):
    """mUSE without its last network: string [B] -> float32 [B, 512], the pooled sentences."""

    def _head(self, sentence: tf.Tensor) -> tf.Tensor:
        return sentence
