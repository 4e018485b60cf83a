"""``python -m trainer.spark_data``: a config's dataset prepared by Spark, where one machine can't hold the data.

With spark-submit, this file is the application. docs/scale_spark.md has the commands for clusters.
"""

import argparse
import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from serving.arguments import add_arguments, argument, options_of
from trainer.config.loading import load_config
from trainer.config.settings import Config
from trainer.data.settings import TabularSource
from trainer.data.sources.tabular import named
from trainer.data.spark.counts import make_counts, make_pairs
from trainer.data.spark.jdbc import read_query
from trainer.data.spark.places import building, joined
from trainer.data.spark.session import open_session
from trainer.data.spark.split import make_split
from trainer.data.spark.store import STORE_QUERIES
from trainer.data.spark.tables import STAGING, Tables, make_tables
from trainer.data.split import without_validation
from trainer.errors import BabelrecError
from trainer.storage import explain
from trainer.text.spark_vectors import encode_items

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_TABLES: Final = ("interactions", "items", "users")


@dataclass(frozen=True)
class SparkOptions:
    """Options of the command."""

    config: Path = argument("--config", type=Path, required=True, metavar="YAML", help="settings; see configs/")
    output: str = argument(
        "--output",
        required=True,
        metavar="DIR|URI",
        help="the dataset directory to create, which all workers can write",
    )
    overrides: list[str] = argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting; may be repeated"
    )
    interactions: list[str] = argument(
        "--interactions",
        action="append",
        default=[],
        metavar="DIR|URI",
        help="file, directory or glob, with gs://, s3:// or hdfs:// if it is not mounted (default: data.source's); may "
        "be repeated: one after another",
    )
    items: list[str] = argument("--items", action="append", default=[], metavar="DIR|URI", help="likewise")
    users: list[str] = argument("--users", action="append", default=[], metavar="DIR|URI", help="likewise")
    jdbc: str = argument("--jdbc", metavar="URL", default="", help="of a database, jdbc:..., for --query and --store")
    store: bool = argument(
        "--store",
        action="store_true",
        default=False,
        help="the database is a recommendation service's store: read the tables that have no --query from it",
    )
    queries: list[str] = argument(
        "--query",
        action="append",
        default=[],
        metavar="TABLE=SQL",
        help="read a table (interactions, items, users) from the database; may be repeated",
    )
    split_by: list[str] = argument(
        "--split-by",
        action="append",
        default=[],
        metavar="TABLE=COLUMN",
        help="column of a query, of numbers or times, whose ranges are read at once; may be repeated",
    )
    master: str | None = argument(
        "--master", default=None, metavar="URL", help="of Spark, such as local[8] (default: spark-submit's)"
    )
    conf: list[str] = argument(
        "--conf", action="append", default=[], metavar="NAME=VALUE", help="a setting of Spark; may be repeated"
    )
    vectors: str = argument(
        "--vectors",
        metavar="DIR|URI",
        default="",
        help="encode the items' texts into this directory: `vectors` of the cache ($BABELREC_CACHE) that fit reads",
    )
    counts: bool = argument(
        "--counts",
        action="store_true",
        default=False,
        help="also write how often each value occurs in the training part",
    )
    pairs: bool = argument(
        "--pairs", action="store_true", default=False, help="also write how many users have both of two items"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepares a dataset; returns the exit code: 0, or 1 for bad input or output that can't be written."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.spark_data", description="Prepares and splits a config's dataset with Spark."
    )
    add_arguments(parser, SparkOptions)
    options = options_of(SparkOptions, parser.parse_args(arguments))
    try:
        prepare(options)
    except (BabelrecError, OSError) as error:
        text = str(error) if isinstance(error, BabelrecError) else explain(error)
        if text is None:
            raise
        print(f"error: {text}", file=sys.stderr)
        return 1
    print(f"The dataset is in {options.output}. Where it is mounted or copied to:")
    dataset = "--set data.source='{name: dataset, path: DIR}'"
    print(f"  python -m trainer.task fit --config {shlex.quote(str(options.config))} {dataset} --run-dir RUN")
    return 0


def prepare(options: SparkOptions, session: "SparkSession | None" = None) -> Tables:
    """Does what the options say.

    Args:
        options: The options.
        session: Of Spark; None: one is opened, and closed afterwards.

    Raises:
        BabelrecError: Faults of the options, the data or the settings.
    """
    config = load_config(options.config, options.overrides)
    source = config.data.source
    if not isinstance(source, TabularSource):
        raise BabelrecError(
            f"`data.source` is {source.name}. Remedy: Spark prepares `tabular` sources; run `trainer.task data`."
        )
    queries = dict(_by_name(options.queries, "--query"))
    split_by = _by_name(options.split_by, "--split-by")
    if options.store:
        queries = {table: STORE_QUERIES[table] for table in named(source)} | queries
    if bool(queries) != bool(options.jdbc):
        raise BabelrecError(
            "--jdbc URL needs --query TABLE=SQL or --store, and they need it. Remedy: give both or none."
        )
    given = _given(options)
    if (given["users"] or "users" in queries) and source.users is None:
        # Its place is not read.
        source = source.model_copy(update={"users": source.interactions.with_name("users")})
    own = session is None
    session = session or open_session(options.master, _by_name(options.conf, "--conf", None))
    try:
        with building(options.output) as path:
            places: dict[str, list[str]] = {table: given[table] for table in named(source)}
            for table, query in queries.items():
                place = joined(path, STAGING, "queries", table)
                time = source.columns.interactions.get("timestamp", "timestamp") if table == "interactions" else None
                read_query(session, options.jdbc, query, place, time=time, split_by=split_by.get(table))
                places[table] = [*places[table], place]
            places = {table: found or [str(getattr(source, table))] for table, found in places.items()}
            tables = make_tables(session, source, places, path)
            _derive(session, tables, config, options)
            tables.write_header()
    finally:
        if own:
            session.stop()
    return replace(tables, path=options.output)


def _derive(session: "SparkSession", tables: Tables, config: Config, options: SparkOptions) -> None:
    """Makes what `fit` would make of the tables."""
    make_split(session, tables, config.data)
    if config.training.refit and config.data.split.validation_fraction > 0.0:
        make_split(session, tables, without_validation(config.data))
    if options.counts:
        make_counts(session, tables, config.data)
    if options.pairs:
        make_pairs(session, tables, config.data)
    if options.vectors:
        items = joined(tables.path, "items")
        encode_items(session, items, tables.shards["items"], tables.rows["items"], config.text, options.vectors)


def _given(options: SparkOptions) -> dict[str, list[str]]:
    return {"interactions": options.interactions, "items": options.items, "users": options.users}


def _by_name(values: Sequence[str], option: str, names: Sequence[str] | None = _TABLES) -> Mapping[str, str]:
    found = {}
    for value in values:
        name, separator, rest = value.partition("=")
        if not separator or (names is not None and name not in names):
            what = "NAME=VALUE" if names is None else f"TABLE=..., of {', '.join(names)}"
            raise BabelrecError(f"{option} {value!r}: write {what}.")
        found[name] = rest
    return found


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("trainer").setLevel(logging.INFO)
    sys.exit(main())
