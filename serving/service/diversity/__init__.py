"""Diversity of a list: maximal marginal relevance and determinantal point processes, and what they cost.

`choosing` says where it comes in the order of rules.
"""

from serving.service.diversity.choosing import METHODS, DiverseChooser, Method
from serving.service.diversity.cost import Cost, cost
from serving.service.diversity.dpp import dpp
from serving.service.diversity.mmr import mmr

__all__ = ["METHODS", "Cost", "DiverseChooser", "Method", "cost", "dpp", "mmr"]
