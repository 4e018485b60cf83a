"""InfoNCE by hand."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.training.contrastive import info_nce


def test_each_row_has_to_find_its_other_view_both_ways() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 4, 3))
    cosines = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in second] for a in first]
    logits = np.array(cosines) / 0.3
    losses = []
    for place in range(4):
        losses.append(np.log(np.exp(logits[place]).sum()) - logits[place, place])
        losses.append(np.log(np.exp(logits[:, place]).sum()) - logits[place, place])
    found = info_nce(tf.constant(first, tf.float32), tf.constant(second, tf.float32), 0.3, tf.range(4)[:, tf.newaxis])
    assert float(found) == pytest.approx(np.mean(losses), rel=1e-5)


def test_rows_of_one_group_are_not_negatives_of_each_other() -> None:
    same = tf.constant([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    # Rows 0 and 1 share their second number, rows 1 and 2 nothing.
    loss = info_nce(same, same, 1.0, tf.constant([[0, 7], [1, 7], [2, 8]]))
    alone = np.log(np.e + 1) - 1
    both = np.log(np.e + 2) - 1
    assert float(loss) == pytest.approx((alone + alone + both) / 3, rel=1e-5)
