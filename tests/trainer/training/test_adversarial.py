"""FGM and VAT against cases whose worst perturbation is known."""

import numpy as np
import tensorflow as tf

from trainer.training.adversarial import divergence, fgm_loss, vat_loss


def test_fgm_moves_each_row_along_its_own_gradient() -> None:
    # loss = sum of a_i . x_i: the gradient of row i is a_i for any x, so the loss rises by epsilon sum |a_i|.
    slopes = tf.constant([[3.0, 4.0], [0.0, 1e-30], [0.0, 0.0]])
    inputs = tf.constant(np.random.default_rng(0).normal(size=(3, 2)), tf.float32)
    moved = fgm_loss(inputs, lambda x: tf.reduce_sum(slopes * x), 0.5)
    np.testing.assert_allclose(moved, float(tf.reduce_sum(slopes * inputs)) + 0.5 * 5.0, rtol=1e-5)


def test_fgm_trains_the_weights_at_the_moved_place_alone() -> None:
    # loss = w x^2 at x = 2 moves to 2.5; r is held fixed, so d loss / d w is exactly 2.5^2.
    weight = tf.Variable(3.0)
    with tf.GradientTape() as tape:
        loss = fgm_loss(tf.constant([[2.0]]), lambda x: weight * tf.reduce_sum(x**2), 0.5)
    np.testing.assert_allclose(loss, 3.0 * 6.25)
    np.testing.assert_allclose(tape.gradient(loss, weight), 6.25)


def test_divergence_is_kullback_and_leiblers() -> None:
    first, second = np.array([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]]), np.array([[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]])
    expected = np.mean([0.5 * np.log(2) - 0.25 * np.log(2), np.log(2)])
    logs = np.log(np.maximum(first, 1e-38)).astype(np.float32)
    np.testing.assert_allclose(
        divergence(tf.constant(logs), tf.math.log(second.astype(np.float32))), expected, rtol=1e-5
    )


def test_vat_finds_the_direction_that_the_answers_depend_on() -> None:
    tf.keras.utils.set_random_seed(3)
    # Predictions depend only on the first of ten coordinates: moving along it is the worst perturbation.
    kernel = np.zeros((10, 3), np.float32)
    kernel[0] = [2.0, -1.0, 0.5]
    inputs = np.random.default_rng(1).normal(size=(40, 10)).astype(np.float32)
    found = float(vat_loss(tf.constant(inputs), lambda x: tf.matmul(x, kernel), 0.3))
    worst = []
    for row in inputs:
        answer = np.exp(row @ kernel) / np.exp(row @ kernel).sum()
        sides = []
        for sign in (1, -1):
            moved = (row + sign * 0.3 * np.eye(10)[0]) @ kernel
            sides.append((answer * (np.log(answer) - moved + np.log(np.exp(moved).sum()))).sum())
        worst.append((min(sides), max(sides)))
    low, high = np.mean(worst, axis=0)
    assert low * 0.98 <= found <= high * 1.02
    random = tf.math.l2_normalize(tf.random.normal([40, 10]), axis=1)
    answers = tf.matmul(inputs, kernel)
    assert found > 2 * float(divergence(answers, tf.matmul(inputs + 0.3 * random, kernel)))
