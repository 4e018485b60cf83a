"""InfoNCE between two views of the same things."""

import tensorflow as tf


def info_nce(first: tf.Tensor, second: tf.Tensor, temperature: float, groups: tf.Tensor) -> tf.Tensor:
    """Symmetric InfoNCE (van den Oord et al., 2018, arXiv 1807.03748, eq. 4, both ways as in CLIP, arXiv 2103.00020).

    Each row of ``first`` must find its counterpart in ``second`` among all rows by cosine, and
    vice versa. Rows of the same group are not negatives of each other.

    Args:
        first: Float32 [n, D], n at least 1.
        second: Float32 [n, D]; row i is the other view of row i.
        temperature: Divides the cosines.
        groups: Int [n, G]; two rows are equivalent if any of their G numbers agree, such as films of one title.

    Returns:
        Mean cross-entropy in nats, a scalar.
    """
    logits = tf.matmul(tf.math.l2_normalize(first, axis=1), tf.math.l2_normalize(second, axis=1), transpose_b=True)
    count = tf.shape(groups)[0]
    same = tf.reduce_any(tf.equal(groups[:, tf.newaxis], groups[tf.newaxis, :]), axis=2)
    same &= ~tf.eye(count, dtype=tf.bool)
    logits = tf.where(same, -1e9, logits / temperature)
    own = tf.range(count)
    both = [
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=own, logits=each)
        for each in (logits, tf.transpose(logits))
    ]
    return tf.reduce_mean(tf.stack(both))
