"""What is chosen after what: how often an item has followed those of a history.

Retrieval compares one vector of a request with one of each item, and knows of the history's order only what a vector
of 64 numbers can hold. How often people went on to an item soon after another is kept here as counted, for the pairs
that were counted most (item-to-item by co-visits: Linden et al., 2003, doi 10.1109/MIC.2003.1167344; with order and
distance, as in the session-based methods that Ludewig and Jannach compare, 2018, doi 10.1007/s11257-018-9209-6). It is
a signal of the ranking stage, which has few candidates: nothing has to be searched for.
"""

from typing import Final

import numpy as np
import scipy.sparse
import tensorflow as tf

from trainer.data.user_items import UserItems
from trainer.models.settings import TransitionsConfig

TRANSITIONS: Final = "transitions"
"""Name of the signal in a blend."""
# An item n places later counts n^-0.5.
_DISTANCE: Final = 0.5
# An item that little followed says little: as if so many further ones had followed, each another one.
_PRIOR: Final = 20.0
# Users on whom the scores' size is measured.
_SAMPLE: Final = 1_000
_NOTHING: Final = np.iinfo(np.int32).max


class Transitions(tf.Module):
    """For every known item those that followed it most, and how much.

    The score of item j after a history i_0, i_1, ... (newest first) is the mean of p(j | i_n), weighted by 1 / (1 + n),
    with p(j | i) the share of j among what followed i. Its unit is the mean of the scores above 0 of training users.

    Args:
        known: Number of known items V.
        config: How many are kept, and of what.
    """

    def __init__(self, known: int, config: TransitionsConfig) -> None:
        super().__init__(name=TRANSITIONS)
        self._window, self._history = config.window, config.history
        shape = [known + 1, config.successors]
        with tf.device("CPU:0"):
            # Index 0 is "unknown". Vocabulary indices in ascending order; the largest int32 pads.
            self.successors = tf.Variable(tf.fill(shape, _NOTHING), trainable=False, name="successors")
            self.shares = tf.Variable(tf.zeros(shape), trainable=False, name="shares")

    def __call__(self, history: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
        """Scores of candidates, float32 [B, C]; 0 for those that followed nothing of the history.

        Args:
            history: Int32 [B, H], vocabulary indices, newest first; 0 unknown, -1 pads.
            candidates: Int32 [B, C], vocabulary indices, 0 unknown.
        """
        history = history[:, : self._history]
        batch, length = tf.unstack(tf.shape(history))
        count = tf.shape(candidates)[1]
        before = tf.reshape(tf.maximum(history, 0), [-1])
        after = tf.gather(self.successors, before)
        wanted = tf.reshape(tf.repeat(candidates, length, axis=0), [-1, count])
        place = tf.minimum(tf.searchsorted(after, wanted), int(after.shape[1]) - 1)
        found = tf.gather(after, place, batch_dims=1) == wanted
        share = tf.where(found, tf.gather(tf.gather(self.shares, before), place, batch_dims=1), 0.0)
        newer = tf.cast(tf.range(length), tf.float32)
        weights = tf.where(history >= 0, 1.0 / (1.0 + newer), 0.0)
        weights = tf.math.divide_no_nan(weights, tf.reduce_sum(weights, axis=1, keepdims=True))
        return tf.einsum("bh,bhc->bc", weights, tf.reshape(share, [batch, length, count]))

    def fit(self, histories: UserItems) -> None:
        """Counts.

        Args:
            histories: Training positives, as indices of the known items from 0.
        """
        known, width = int(self.shares.shape[0]) - 1, int(self.shares.shape[1])
        counts = _followers(histories, known, self._window)
        followed = counts.sum(axis=1)
        rows = np.repeat(np.arange(known), np.diff(counts.indptr))
        shares = counts.data / (followed[rows] + _PRIOR)
        # Those of each row by size; then, of those that are kept, by index.
        order = np.lexsort((-shares, rows))
        kept = np.sort(order[np.arange(len(order)) - counts.indptr[rows[order]] < width])
        rows, columns, shares = rows[kept], counts.indices[kept], shares[kept]
        starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=known))])
        places = np.arange(len(rows)) - starts[rows]
        successors = np.full((known + 1, width), _NOTHING, np.int32)
        table = np.zeros((known + 1, width), np.float32)
        successors[rows + 1, places], table[rows + 1, places] = columns + 1, shares
        self.successors.assign(successors)
        self.shares.assign(
            table / self._size(histories, scipy.sparse.csr_array((shares, columns, starts), (known,) * 2))
        )

    def _size(self, histories: UserItems, shares: scipy.sparse.csr_array) -> float:
        """Mean of the scores above 0 of some users, for all items; 1 if there are none."""
        some = np.linspace(0, len(histories) - 1, min(len(histories), _SAMPLE)).astype(np.int64)
        newest = histories.at(some).newest(self._history)
        who, place = np.nonzero(newest >= 0)
        weights = 1.0 / (1.0 + place)
        weights /= np.bincount(who, weights, minlength=len(some))[who]
        shape = (len(some), shares.shape[0])
        found = scipy.sparse.csr_array((weights, (who, newest[who, place])), shape=shape) @ shares
        return float(found.data.mean()) if found.nnz else 1.0


def _followers(histories: UserItems, known: int, window: int) -> scipy.sparse.csr_array:
    """How often each item was chosen up to ``window`` places after another, [V, V], weighted by distance."""
    users, items = histories.users(), np.asarray(histories.items)
    total = scipy.sparse.csr_array((known, known), dtype=np.float64)
    for distance in range(1, min(window, len(items) - 1) + 1):
        same = users[:-distance] == users[distance:]
        before, after = items[:-distance][same], items[distance:][same]
        weights = np.full(len(before), float(distance) ** -_DISTANCE)
        total = total + scipy.sparse.csr_array((weights, (before, after)), shape=(known, known))
    total.sum_duplicates()
    return total
