"""The service's HTTP interface.

app = create_app(store, recommender, default_options(store="sqlite:////var/lib/babelrec/store.db"))
"""

from serving.service.api.app import create_app

__all__ = ["create_app"]
