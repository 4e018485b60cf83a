"""Scenes: Babelrec on data of shops, news, films and stays, compared with tuned baselines."""
