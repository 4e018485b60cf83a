"""The list of an answer: rules, diversity and exploration applied to candidates."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.service import diversity, rules
from serving.service.recommendation import RecommendationResponse, RecommendedItem, RuleEffect
from serving.service.recommender.arms import Arm
from serving.service.recommender.asking import MOST_ITEMS, Asked
from serving.service.recommender.candidates import CandidateList, vectors_of
from serving.service.recommender.catalogue import Catalogue
from serving.service.recommender.exploring import Explorer
from serving.service.recommender.fresh import FreshTier
from serving.service.recommender.merging import Scored
from serving.service.types import Item

# Candidates that rules and diversity choose from: so many times the list's length, and at least and at most so many.
_POOL_FACTOR, _POOL_LEAST, _POOL_MOST = 4, 50, 200
# Rules that leave too few are given so many times as many candidates.
_GROWTH: Final = 4


class Lists:
    """Makes lists.

    Args:
        catalogue: The items.
        explorer: Chooses what is explored.

    Attributes:
        rules: Those of now.
    """

    def __init__(self, catalogue: Catalogue, explorer: Explorer) -> None:
        self._catalogue = catalogue
        self._explorer = explorer
        self.rules = rules.Rules()

    def read_rules(self, text: str) -> None:
        """Takes the rules of a YAML document; an empty one has none.

        Raises:
            RulesError: there is a mistake in it; the earlier rules stay.
        """
        self.rules = rules.parse_rules(text) if text.strip() else rules.Rules()

    def pool(self, asked: Asked) -> int:
        """How many candidates a list is chosen from."""
        request = asked.request
        if not self.rules.rules and not request.diversity:
            return request.k
        return min(max(_POOL_FACTOR * request.k, _POOL_LEAST), max(_POOL_MOST, request.k), MOST_ITEMS)

    async def fill(self, arm: Arm, asked: Asked, found: CandidateList) -> RecommendationResponse:
        """The list of an arm's candidates, of which it is asked for more if rules leave too few."""
        pool = self.pool(asked)
        response = self.answer(asked, found, arm.tiers.of(found.version))
        while len(response.items) < asked.request.k and pool <= len(found.items) and pool < MOST_ITEMS:
            pool = min(_GROWTH * pool, MOST_ITEMS)
            more = await arm.candidates.find(asked, pool)
            if more.is_popular and not found.is_popular:
                break
            found, response = more, self.answer(asked, more, arm.tiers.of(more.version))
        return response

    def answer(self, asked: Asked, found: CandidateList, tier: FreshTier | None) -> RecommendationResponse:
        """The answer to a request.

        Args:
            asked: The request.
            found: Its candidates.
            tier: Fresh items of the same version of the model.
        """
        request = asked.request
        # Items may have gone while the model was asked.
        found = replace(found, items=[each for each in found.items if asked.allows(each.item_id)])
        context = rules.Context(
            now=asked.now, placement=request.placement, language=request.language, country=request.country
        )
        candidates = [rules.Candidate(self._item(each), each.score, each.source) for each in found.items]
        # Items that only pins show come last by score.
        least = min((each.score for each in found.items), default=0.0)
        extras = [
            rules.Candidate(item, least, "pinned")
            for item_id in rules.pinned_items(self.rules, context)
            if asked.allows_known(item_id) and (item := self._catalogue.get(item_id)) is not None
        ]
        vectors = vectors_of(found) if request.diversity else None
        choose: rules.Chooser = rules.by_score
        if vectors is not None:
            choose = diversity.DiverseChooser(vectors, request.diversity)
        outcome = rules.apply(self.rules, candidates, context, request.k, extras=extras, choose=choose)
        items = _placed(found.items, outcome)
        if tier is not None and self._explorer.explores:
            items = self._explored(asked, items, [placed.item for placed in outcome.items], tier, context)
            self._explorer.shown(item.item_id for item in items if item.item_id in tier)
        return RecommendationResponse(
            recommendation_id=uuid.uuid4().hex,
            model_version=found.version,
            variant="",
            degraded=found.is_popular,
            items=items,
            removed={removal.rule: removal.items for removal in outcome.removals},
            diversity={} if vectors is None else _cost(vectors, found.items, items),
        )

    def _explored(
        self,
        asked: Asked,
        items: list[RecommendedItem],
        shown: Sequence[Item],
        tier: FreshTier,
        context: rules.Context,
    ) -> list[RecommendedItem]:
        """The list, perhaps with an unseen item in the place of another one that is neither the first nor pinned."""
        ids = {item.item_id for item in shown}
        positions = [each.position for each in items if each.position and each.source != "pinned"]
        if not positions:
            return items
        unseen = self._explorer.unseen(
            tier.newest(), lambda item_id: item_id not in ids and asked.allows_known(item_id)
        )
        known = [item for item_id in unseen if (item := self._catalogue.get(item_id)) is not None]
        choice = {item.item_id: item for item in rules.addable(self.rules, shown, known, context)}
        drawn = self._explorer.draw(positions, list(choice))
        if drawn is None:
            return items
        items = [replace(each, propensity=drawn.kept) if each.position in drawn.positions else each for each in items]
        if drawn.place is not None:
            item = choice[drawn.item_id]
            items[drawn.place] = RecommendedItem(
                item_id=item.item_id,
                position=drawn.place,
                title=item.title,
                language=item.language,
                score=items[drawn.place].score,
                propensity=drawn.propensity,
                source="explored",
            )
        return items

    def _item(self, scored: Scored) -> Item:
        """With all that rules read; if the store doesn't have it, what the model says."""
        item = self._catalogue.get(scored.item_id)
        return item or Item(item_id=scored.item_id, language=scored.language, title=scored.title)


def _placed(found: Sequence[Scored], outcome: rules.Outcome) -> list[RecommendedItem]:
    heads = {each.item_id: each.heads for each in found}
    return [
        RecommendedItem(
            item_id=placed.item.item_id,
            position=position,
            title=placed.item.title,
            language=placed.item.language,
            score=placed.score,
            heads=heads.get(placed.item.item_id, {}),
            source=placed.source,
            rules=[
                RuleEffect(rule=touch.rule, kind=touch.kind, before=touch.before, after=touch.after)
                for touch in placed.touches
            ],
        )
        for position, placed in enumerate(outcome.items)
    ]


def _cost(
    vectors: npt.NDArray[np.float32], candidates: Sequence[Scored], items: Sequence[RecommendedItem]
) -> dict[str, float]:
    places = {candidate.item_id: place for place, candidate in enumerate(candidates)}
    chosen = [places[item.item_id] for item in items if item.item_id in places]
    cost = diversity.cost(vectors, [candidate.score for candidate in candidates], chosen)
    return {
        "similarity_before": cost.similarity_before,
        "similarity_after": cost.similarity_after,
        "ndcg": cost.ndcg,
    }
