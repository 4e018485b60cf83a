"""mUSE's forward pass in NumPy, sentence by sentence and token by token, independent of the code under test."""

from pathlib import Path
from typing import Any

import numpy as np

# NumPy types the results of arithmetic as Any.
Array = Any
# order -> where a token's window begins and ends, relative to the token (both included)
WINDOWS = {2: (0, 1), 3: (-1, 1), 5: (-2, 2)}


class Oracle:
    """Float64, straight from the npz of the package."""

    def __init__(self, npz: Path) -> None:
        with np.load(npz) as archive:
            self.arrays = {name: archive[name] for name in archive.files}
        self.weights = {n: a.astype(np.float64) for n, a in self.arrays.items() if a.dtype == np.float32}

    def weight(self, name: str) -> Array:
        return self.weights[name]

    def embedding(self, token: int) -> Array:
        row, chunk = divmod(token, 17)
        codes = self.arrays[f"q{chunk + 1}"][row].astype(np.float64)
        return codes * float(self.arrays["scale"][chunk]) + float(self.arrays["lo"][chunk])

    @staticmethod
    def standardised(vector: Array) -> Array:
        return (vector - vector.mean()) / np.sqrt(vector.var() + 1e-12)

    def branch_inputs(self, embedding: Array, *, per_branch: bool) -> dict[int, Array]:
        projected = {n: embedding @ self.weight(f"proj{n}") + self.weight(f"proj_b{n}") for n in WINDOWS}
        if per_branch:
            normal = {n: self.standardised(value) for n, value in projected.items()}
        else:
            together = self.standardised(np.concatenate([projected[n] for n in WINDOWS]))
            normal = {n: together[i * 256 : (i + 1) * 256] for i, n in enumerate(WINDOWS)}
        return {n: normal[n] * self.weight(f"ln_g{n}") + self.weight(f"ln_b{n}") for n in WINDOWS}

    def convolved(self, sequence: list[Array], order: int, layer: int) -> list[Array]:
        begin, end = WINDOWS[order]
        kernel, bias = self.weight(f"w{layer}_{order}"), self.weight(f"b{layer}_{order}")
        result = []
        for position, own in enumerate(sequence):
            window = [
                sequence[i] if 0 <= i < len(sequence) else np.zeros(256)
                for i in range(position + begin, position + end + 1)
            ]
            result.append(np.maximum(np.concatenate(window) @ kernel + bias, 0.0) + own)
        return result

    def encode(self, tokens: list[int], *, per_branch: bool) -> Array:
        embeddings = [self.embedding(token) for token in tokens]
        inputs = [self.branch_inputs(embedding, per_branch=per_branch) for embedding in embeddings]
        branches = []
        for order in WINDOWS:
            first = self.convolved([entry[order] for entry in inputs], order, 1)
            branches.append(self.convolved(first, order, 2))
        total = np.zeros(512)
        for position, embedding in enumerate(embeddings):
            features = np.concatenate([embedding, *(branch[position] for branch in branches)])
            features = self.standardised(features) * self.weight("ln_g") + self.weight("ln_b")
            total += features @ self.weight("cnn_W") + self.weight("cnn_b")
        sentence = total / np.sqrt(len(tokens))
        hidden = np.maximum(sentence @ self.weight("d0"), 0.0)
        first_block = np.maximum(hidden @ self.weight("d1") + sentence @ self.weight("p1"), 0.0)
        hidden = np.maximum(first_block @ self.weight("d2"), 0.0)
        output = np.tanh(hidden @ self.weight("d3") + first_block @ self.weight("p3"))
        return output / np.linalg.norm(output)
