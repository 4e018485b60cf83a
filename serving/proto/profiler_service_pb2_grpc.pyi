# fmt: off
# ruff: noqa
from typing import Any

def __getattr__(name: str) -> Any: ...
