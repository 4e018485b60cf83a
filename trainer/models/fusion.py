"""Which scorers a config adds to the towers."""

from trainer.data.item_table import ItemTable
from trainer.data.vocabulary import Vocabulary
from trainer.models.settings import ModelConfig
from trainer.scorers.content import ContentSimilarity
from trainer.scorers.fusion import Fusion
from trainer.scorers.linear import LinearScorer, linear_rank
from trainer.scorers.popularity import Popularity


def make_fusion(config: ModelConfig, vocabulary: Vocabulary, items: ItemTable) -> Fusion:
    """The scorers that a config adds to the towers."""
    known = len(vocabulary.items)
    rank = linear_rank(config.linear, len(vocabulary.users), known)
    content = config.content
    return Fusion(
        config.dimension,
        linear=LinearScorer(known, rank, name="linear") if rank else None,
        content=ContentSimilarity(
            items.content.shape[1],
            content.recency,
            rank=content.metric_rank if content.metric == "users" else 0,
            name="content",
        )
        if content.enabled
        else None,
        popularity=Popularity(known, name="popularity") if config.candidate.popularity else None,
    )
