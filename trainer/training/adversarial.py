"""Adversarial training on the items' vectors: FGM and VAT.

FGM (Miyato et al., 2017, arXiv 1605.07725, eq. 4) adds the loss under the perturbation
``r = epsilon g / |g|`` with g the gradient of the loss. VAT (Miyato et al., 2018, arXiv 1704.03976)
needs no labels: it adds the divergence of the model's own predictions under the worst perturbation.
"""

from collections.abc import Callable

import tensorflow as tf

_LossOf = Callable[[tf.Tensor], tf.Tensor]
# Finite-difference step for VAT's direction, and the number of refinements (eq. 12 and algorithm 1).
_PROBE = 0.1
_POWER_ITERATIONS = 1


def fgm_loss(inputs: tf.Tensor, loss_of: _LossOf, epsilon: float) -> tf.Tensor:
    """The loss after moving the inputs by ``epsilon`` in the direction of steepest increase.

    Args:
        inputs: Float32 [n, T], one vector per item.
        loss_of: Inputs -> scalar loss.
        epsilon: Length of each row's perturbation.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        loss = loss_of(inputs)
    gradient = tf.convert_to_tensor(tape.gradient(loss, inputs))
    return loss_of(inputs + tf.stop_gradient(epsilon * _unit(gradient)))


def vat_loss(inputs: tf.Tensor, logits_of: _LossOf, epsilon: float) -> tf.Tensor:
    """Mean KL divergence between predictions and those under the worst perturbation of length ``epsilon``.

    Args:
        inputs: Float32 [n, T], one vector per item.
        logits_of: Inputs -> logits [B, C]; it must be deterministic (no dropout), or the divergence would
            measure that noise.
        epsilon: Length of each row's perturbation.
    """
    answers = tf.stop_gradient(logits_of(inputs))
    direction = _unit(tf.random.normal(tf.shape(inputs)))
    for _ in range(_POWER_ITERATIONS):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(direction)
            moved = divergence(answers, logits_of(inputs + _PROBE * direction))
        direction = tf.stop_gradient(_unit(tf.convert_to_tensor(tape.gradient(moved, direction))))
    return divergence(answers, logits_of(inputs + epsilon * direction))


def divergence(logits: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Mean over rows of KL(softmax(logits) || softmax(others)), in nats; both [B, C]."""
    logs, other_logs = tf.nn.log_softmax(logits), tf.nn.log_softmax(others)
    # 0 log 0 is 0: a masked candidate has probability 0 and a huge negative logit in both.
    return tf.reduce_mean(tf.reduce_sum(tf.exp(logs) * (logs - other_logs), axis=-1))


def _unit(vectors: tf.Tensor) -> tf.Tensor:
    """Rows of length 1; zero rows stay zero. Scaled first, since a gradient may be too small to square."""
    largest = tf.reduce_max(tf.abs(vectors), axis=-1, keepdims=True)
    return tf.math.l2_normalize(tf.math.divide_no_nan(vectors, largest), axis=-1)
