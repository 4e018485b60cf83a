"""Every section of the quality benchmark's table. To add one: a module with ``MAKERS``, listed here."""

from benchmarks.quality.suites import cold_start, collaborative, news, text_queries, zero_shot
from benchmarks.quality.suites.suite import Suite


def all_suites() -> list[Suite]:
    """The suites in table order."""
    return [make() for module in (collaborative, zero_shot, cold_start, news, text_queries) for make in module.MAKERS]
