"""Quality of recommendations and of text search; ``python -m benchmarks.quality`` compares with baselines."""

from pathlib import Path

TEXT_QUERIES = Path(__file__).parent / "text_queries.yaml"
"""Forty queries in sixteen languages, read by `load_text_queries`."""
