"""Other people's recommenders, measured beside Babelrec by `benchmarks.quality` (``pip install .[bench]``)."""
