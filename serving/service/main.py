"""The command of the recommendation service."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final

from serving.service import importing, keys_command
from serving.service.api.serving import serve
from serving.service.errors import InvalidRequestError, ServiceError
from serving.service.options import ServiceOptions, parse_options, store_url
from serving.service.recommendation import Recommender
from serving.service.rules import RulesError, parse_rules
from serving.service.store import Store, StoreError, open_store

MakeRecommender = Callable[[Store, ServiceOptions], Recommender]
_FAILED: Final = 1
_RULES_AUTHOR: Final = "--rules"


def main(arguments: Sequence[str] | None = None, make_recommender: MakeRecommender | None = None) -> int:
    """Runs the service until SIGTERM or SIGINT, or a command about keys.

    Args:
        arguments: Default: those of the process.
        make_recommender: Default: ``serving.service.recommender.open_recommender``.

    Returns:
        The exit status.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] == ["keys"]:
            return keys_command.main(given[1:])
        if given[:1] == ["import"]:
            return importing.main(given[1:])
        parser = argparse.ArgumentParser(
            prog="babelrec-service",
            description="Runs the recommendation service.",
            epilog="Keys: babelrec-service keys add|list|revoke. A dataset into the store: babelrec-service import.",
        )
        options = parse_options(parser, given)
        with open_store(store_url(parser, options.store)) as store:
            _load_rules(store, options)
            serve(store, (make_recommender or _open_recommender)(store, options), options)
    except (ServiceError, StoreError, RulesError) as error:
        print(f"error: {error}", file=sys.stderr)
        return _FAILED
    return 0


def _open_recommender(store: Store, options: ServiceOptions) -> Recommender:
    # By name: it needs the model server's client, which commands about keys don't.
    module = importlib.import_module("serving.service.recommender")
    recommender: Recommender = module.open_recommender(store, options)
    return recommender


def _load_rules(store: Store, options: ServiceOptions) -> None:
    """Puts the rules of a file into the store, from which all replicas read them."""
    if options.rules is None:
        return
    try:
        text = options.rules.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise InvalidRequestError(
            f"--rules {options.rules}: {reason}. Remedy: name a readable file in UTF-8."
        ) from None
    parse_rules(text, str(options.rules))
    if store.rules()[0] != text:
        store.put_rules(text, _RULES_AUTHOR)
