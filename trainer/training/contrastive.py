"""InfoNCE between two views of the same things."""

import tensorflow as tf


def info_nce(first: tf.Tensor, second: tf.Tensor, temperature: float, groups: tf.Tensor) -> tf.Tensor:
    """Symmetric InfoNCE (van den Oord et al., 2018, arXiv 1807.03748, eq. 4, both ways as in CLIP, arXiv 2103.00020).

    Each row of ``first`` has to find its own row of ``second`` among all of them by cosine, and the
    other way round. Rows of one group are no negatives of each other.

    Args:
        first: Float32 [n, D].
        second: Float32 [n, D]; row i is the other view of row i.
        temperature: Divides the cosines.
        groups: Int [n], equal where two rows mean the same, such as two films of one title.

    Returns:
        Mean cross-entropy in nats, a scalar; 0 for no rows.
    """
    logits = tf.matmul(tf.math.l2_normalize(first, axis=1), tf.math.l2_normalize(second, axis=1), transpose_b=True)
    count = tf.shape(groups)[0]
    same = tf.equal(groups[:, tf.newaxis], groups[tf.newaxis, :]) & ~tf.eye(count, dtype=tf.bool)
    logits = tf.where(same, -1e9, logits / temperature)
    own = tf.range(count)
    both = [
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=own, logits=each)
        for each in (logits, tf.transpose(logits))
    ]
    total = tf.reduce_sum(tf.add_n(both)) / 2.0
    return tf.math.divide_no_nan(total, tf.cast(count, tf.float32))
