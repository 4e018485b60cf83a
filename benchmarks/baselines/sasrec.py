"""SASRec (Kang and McAuley, 2018, arXiv 1808.09781) by Cornac: self-attention over the newest items of a history."""

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from benchmarks.baselines.problem import Histories, Problem
from benchmarks.baselines.settings import Baseline, missing
from trainer.config.base import Settings
from trainer.evaluation.metrics.ranking import BlockScorer


class SasrecSettings(Settings):
    """Settings of cornac.models.SASRec; its loss is a softmax over in-batch and popularity-sampled negatives."""

    embedding_dim: int
    n_epochs: int
    max_len: int
    dropout: float
    learning_rate: float = 1e-3
    num_blocks: int = 2
    num_heads: int = 1
    batch_size: int = 512
    n_sample: int = 2048
    sample_alpha: float = 0.5
    loss: str = "ce"


def _sasrec(problem: Problem, settings: SasrecSettings, seed: int) -> BlockScorer:
    try:
        import torch
        from cornac.models import SASRec
    except ImportError as error:
        raise missing("Cornac or PyTorch", error) from error
    model = SASRec(**settings.model_dump(), seed=seed)
    model.fit(_sessions(problem.learners))
    network, pad = model.model, model.pad_idx
    network.eval()

    def score(block: slice) -> npt.NDArray[np.float32]:
        users = range(block.start, block.stop)
        newest = [problem.evaluated.of_user(user)[-settings.max_len :] for user in users]
        rows = np.full((len(newest), settings.max_len), pad, np.int64)
        for row, items in zip(rows, newest, strict=True):
            row[settings.max_len - len(items) :] = items
        scores = np.concatenate(
            [
                network.predict(None, torch.from_numpy(rows[start : start + 512])).reshape(
                    -1, problem.evaluated.num_items
                )
                for start in range(0, len(rows), 512)
            ]
        )
        return scores

    return score


def _sessions(histories: Histories) -> object:
    """One session per user, with candidates identified by position."""
    from cornac.data.dataset import SequentialDataset

    users = np.repeat(np.arange(len(histories)), np.diff(histories.indptr))
    names = OrderedDict((user, user) for user in range(len(histories)))
    return SequentialDataset(
        num_users=len(histories),
        num_sessions=len(histories),
        num_items=histories.num_items,
        uid_map=names,
        sid_map=names,
        iid_map=OrderedDict((item, item) for item in range(histories.num_items)),
        uir_tuple=(users, histories.items, np.ones(len(users))),
        session_indices=users,
    )


SASREC = Baseline("SASRec", SasrecSettings, _sasrec)
