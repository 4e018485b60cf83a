"""Which part of each step's batch a process makes: all of it, unless a model is trained on several devices."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Share:
    """The part of one process. A batch is cut into equal parts, one for each replica, in the order of its examples.

    Attributes:
        replicas: Parts of a batch.
        first: The process's first part, from 0.
        count: Its parts: one for each of its devices.
    """

    replicas: int = 1
    first: int = 0
    count: int = 1


WHOLE: Final = Share()
