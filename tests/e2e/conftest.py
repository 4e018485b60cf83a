"""The tiny catalogue of the training side, and a run on it."""

from tests.trainer.conftest import tiny, tiny_run

__all__ = ["tiny", "tiny_run"]
