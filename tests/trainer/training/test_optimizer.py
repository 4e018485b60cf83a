"""AdamW for tables: equal to an AdamW written in NumPy on rows that steps use, and nothing on all others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from trainer.training.optimizer import RowwiseAdamW, make_optimizer
from trainer.training.settings import TrainingConfig, TransferConfig
from trainer.training.state import WeightAverage

_Array = npt.NDArray[np.float64]
_SETTINGS = TrainingConfig(learning_rate=0.02, warmup_steps=3, weight_decay=0.4, clip_norm=0.7)
_STEPS = 12


@dataclass
class _Oracle:
    """Loshchilov & Hutter, 2019, algorithm 2, with the gradient clipped by the norm of all weights' gradients.

    A row absent from a step keeps its weight and its moments, and decays when it is next there.
    """

    weights: dict[str, _Array]
    factors: dict[str, float] = field(default_factory=dict)
    step: int = 0

    def __post_init__(self) -> None:
        self.m = {name: np.zeros_like(value) for name, value in self.weights.items()}
        self.v = {name: np.zeros_like(value) for name, value in self.weights.items()}
        self.due = {name: np.ones(len(value)) for name, value in self.weights.items()}

    def apply(self, gradients: dict[str, _Array], used: dict[str, npt.NDArray[np.bool_]]) -> None:
        rate = 0.02 * self.step_factor()
        self.step += 1
        norm = np.sqrt(sum(np.sum(gradient**2) for gradient in gradients.values()))
        for name, gradient in gradients.items():
            clipped = gradient * min(1.0, 0.7 / norm)
            self.due[name] *= 1.0 - 0.4 * rate
            for row in np.flatnonzero(used[name]):
                self.m[name][row] = 0.9 * self.m[name][row] + 0.1 * clipped[row]
                self.v[name][row] = 0.999 * self.v[name][row] + 0.001 * clipped[row] ** 2
                mean = self.m[name][row] / (1.0 - 0.9**self.step)
                deviation = np.sqrt(self.v[name][row] / (1.0 - 0.999**self.step))
                self.weights[name][row] *= self.due[name][row]
                self.weights[name][row] -= self.factors.get(name, 1.0) * rate * mean / (deviation + 1e-7)
                self.due[name][row] = 1.0

    def step_factor(self) -> float:
        if self.step < 3:
            return (self.step + 1) / 3
        return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * (self.step - 3) / (_STEPS - 3)))


def _start() -> dict[str, _Array]:
    rng = np.random.default_rng(3)
    return {"kernel": rng.normal(size=(4, 2)), "table": rng.normal(size=(7, 3)), "other": rng.normal(size=(5, 3))}


def _slices(steps: int, rows: int, *, every: Sequence[int] = ()) -> list[tuple[npt.NDArray[np.int32], _Array]]:
    """Indices with repeats, and their values; the rows ``every`` are in each."""
    rng = np.random.default_rng(rows)
    found = []
    for _ in range(steps):
        indices = np.concatenate([every, rng.integers(0, rows - 1, 4)]).astype(np.int32)
        found.append((indices, rng.normal(size=(len(indices), 3))))
    return found


def _summed(slices: tuple[npt.NDArray[np.int32], _Array], rows: int) -> tuple[_Array, npt.NDArray[np.bool_]]:
    total = np.zeros((rows, 3))
    for index, value in zip(*slices, strict=True):
        total[index] += value
    return total, np.isin(np.arange(rows), slices[0])


@pytest.mark.parametrize("factor", [1.0, 10.0])
def test_rows_that_a_step_uses_are_updated_as_adamw_does(factor: float) -> None:
    """Row 0 is used at each step, others at some, the last never; rows repeat within a step."""
    start = _start()
    oracle = _Oracle({name: value.copy() for name, value in start.items()}, {"other": factor})
    variables = {name: tf.Variable(value, dtype=tf.float32, name=name) for name, value in start.items()}
    optimizer = make_optimizer(
        _SETTINGS.model_copy(update={"transfer": TransferConfig(new_rate=factor)}),
        _STEPS,
        tables=[variables["table"], variables["other"]],
        fresh=[variables["other"]],
    )
    optimizer.build(list(variables.values()))

    @tf.function
    def apply(kernel: tf.Tensor, one: tf.Tensor, rows: tf.Tensor, two: tf.Tensor, others: tf.Tensor) -> None:
        gradients = [kernel, tf.IndexedSlices(one, rows), tf.IndexedSlices(two, others)]
        optimizer.apply_gradients(zip(gradients, variables.values(), strict=True))

    kernels = np.random.default_rng(1).normal(size=(_STEPS, 4, 2))
    for kernel, one, two in zip(kernels, _slices(_STEPS, 7, every=[0, 0]), _slices(_STEPS, 5), strict=True):
        apply(
            *(
                tf.constant(part, tf.float32 if part.dtype.kind == "f" else tf.int32)
                for part in (kernel, one[1], one[0], two[1], two[0])
            )
        )
        (table, used), (other, others_used) = _summed(one, 7), _summed(two, 5)
        oracle.apply(
            {"kernel": kernel, "table": table, "other": other},
            {"kernel": np.ones(4, bool), "table": used, "other": others_used},
        )
    for name, variable in variables.items():
        np.testing.assert_allclose(variable.numpy(), oracle.weights[name], rtol=2e-4, atol=2e-5, err_msg=name)
    np.testing.assert_array_equal(variables["table"].numpy()[6], start["table"][6].astype(np.float32))


def test_a_table_used_as_a_whole_is_that_of_keras() -> None:
    """With a gradient for every row, in either form, all weights are those of `tf.keras.optimizers.AdamW`."""
    gradients = [np.random.default_rng(step).normal(size=(7, 3)).astype(np.float32) * 0.1 for step in range(6)]
    results = []
    for form in ("keras", "slices", "dense"):
        table = tf.Variable(_start()["table"], dtype=tf.float32)
        optimizer = (
            tf.keras.optimizers.AdamW(learning_rate=0.03, weight_decay=0.2, global_clipnorm=0.3)
            if form == "keras"
            else RowwiseAdamW(tables=[table], learning_rate=0.03, weight_decay=0.2, global_clipnorm=0.3)
        )
        for step, gradient in enumerate(gradients):
            order = np.random.default_rng(step).permutation(7)
            shown = tf.IndexedSlices(gradient[order], order) if form == "slices" else tf.constant(gradient)
            optimizer.apply_gradients([(shown, table)])
        results.append(table.numpy())
    np.testing.assert_allclose(results[1], results[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(results[2], results[0], rtol=1e-5, atol=1e-6)


def test_slices_of_other_weights_are_dense() -> None:
    """Weights that are no table move on by their moments, as in Keras's AdamW."""
    results = []
    for make in (tf.keras.optimizers.AdamW, RowwiseAdamW):
        weight = tf.Variable(_start()["table"], dtype=tf.float32)
        optimizer = make(learning_rate=0.03, weight_decay=0.2)
        for step in range(4):
            optimizer.apply_gradients([(tf.IndexedSlices(tf.ones([1, 3]), [step], [7, 3]), weight)])
        results.append(weight.numpy())
    np.testing.assert_allclose(results[1], results[0], rtol=1e-5, atol=1e-6)


def test_resuming_continues_alike(tmp_path_factory: pytest.TempPathFactory) -> None:
    """After half of the steps, a restored optimiser's rows go on exactly as those of one that was never stopped."""
    slices = _slices(8, 7)

    def steps(optimizer: tf.keras.optimizers.Optimizer, table: tf.Variable, first: int, last: int) -> None:
        for indices, values in slices[first:last]:
            optimizer.apply_gradients([(tf.IndexedSlices(tf.constant(values, tf.float32), indices), table)])

    def fresh() -> tuple[tf.keras.optimizers.Optimizer, tf.Variable, tf.train.Checkpoint]:
        table = tf.Variable(_start()["table"], dtype=tf.float32)
        optimizer = make_optimizer(_SETTINGS, _STEPS, tables=[table])
        optimizer.build([table])
        return optimizer, table, tf.train.Checkpoint(table=table, optimizer=optimizer)

    optimizer, whole, _ = fresh()
    steps(optimizer, whole, 0, 8)
    optimizer, half, checkpoint = fresh()
    steps(optimizer, half, 0, 4)
    path = checkpoint.save(str(tmp_path_factory.mktemp("checkpoint") / "at"))
    optimizer, resumed, checkpoint = fresh()
    checkpoint.restore(path).assert_consumed()
    steps(optimizer, resumed, 4, 8)
    np.testing.assert_array_equal(resumed.numpy(), whole.numpy())


def test_the_average_of_rows_is_that_of_every_step() -> None:
    """Although it is computed only when a row changes; and writing it in between alters nothing."""
    model = _Model()
    decay = 0.8
    average = WeightAverage(model, decay, [model.table])
    optimizer = make_optimizer(_SETTINGS, _STEPS, tables=[model.table], before_change=average.settle)
    optimizer.build(model.trainable_variables)
    expected = [weight.numpy().astype(np.float64) for weight in model.trainable_variables]
    for step, (indices, values) in enumerate(_slices(_STEPS, 7), 1):
        gradient = tf.IndexedSlices(tf.constant(values, tf.float32), indices)
        optimizer.apply_gradients(zip([gradient, tf.ones([2])], model.trainable_variables, strict=True))
        average.update()
        kept = min(decay, (1 + step) / (10 + step))
        expected = [
            kept * old + (1 - kept) * weight.numpy()
            for old, weight in zip(expected, model.trainable_variables, strict=True)
        ]
        if step % 5 == 0:
            with average.applied():
                for weight, value in zip(model.trainable_variables, expected, strict=True):
                    np.testing.assert_allclose(weight.numpy(), value, rtol=1e-5, atol=1e-6)
    average.write()
    for weight, value in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(weight.numpy(), value, rtol=1e-5, atol=1e-6)


class _Model(tf.keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.table = tf.Variable(_start()["table"], dtype=tf.float32)
        self.bias = tf.Variable([1.0, 2.0])
