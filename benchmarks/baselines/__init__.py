"""Other recommenders, compared with Babelrec by `benchmarks.quality` (``pip install .[bench]``)."""
