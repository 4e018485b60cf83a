"""The command line: ``python -m serving.client recommend|rank|encode|status``."""

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NoReturn

from serving.client.api import RecommenderClient
from serving.client.errors import BadRequestError, ServingError
from serving.client.types import RankedItem, Recommendation

# Where output goes into a file or pipe there is no width to fit in, and cut titles would be lost.
_UNBOUNDED_WIDTH = 10_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0; 2 for a request that can't be right; 3 when no server answers; 4 after the time-out; 5 for an
        unknown model; 6 when the server is overloaded; 1 for all else.
    """
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        with RecommenderClient(
            options.address, options.model, timeout=options.timeout, version=options.model_version
        ) as client:
            options.run(client, options)
            sys.stdout.flush()
    except ServingError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return 0


def _recommend(client: RecommenderClient, options: argparse.Namespace) -> None:
    items = client.recommend(
        **_query(options),
        k=options.k,
        exclude=_split(options.exclude),
        languages=_split(options.languages),
        categories=_split(options.categories),
        include_seen=options.include_seen,
    )
    if options.json:
        _print_json([asdict(item) for item in items])
    elif items:
        _print_recommendations(items)
    else:
        print("no items: nothing in the catalogue passes the filters")


def _rank(client: RecommenderClient, options: argparse.Namespace) -> None:
    items = client.rank(_split(options.items), **_query(options))
    items = sorted(items, key=lambda item: -math.inf if item.score is None else item.score, reverse=True)
    if options.json:
        _print_json([asdict(item) for item in items])
    else:
        _print_ranking(items)


def _encode(client: RecommenderClient, options: argparse.Namespace) -> None:
    vectors = client.encode(options.texts)
    if options.json:
        _print_json([{"text": t, "embedding": v.tolist()} for t, v in zip(options.texts, vectors, strict=True)])
        return
    table = _table("text", "norm", f"embedding, first 5 of {vectors.shape[1]}", *_numbered(options.texts))
    similarity = vectors @ vectors.T
    for row, (text, vector) in enumerate(zip(options.texts, vectors, strict=True)):
        start = " ".join(f"{value:+.4f}" for value in vector[:5])
        cells = [f"{value:.3f}" for value in similarity[row]] if len(options.texts) > 1 else []
        table.add_row(_plain(text), f"{float((vector @ vector) ** 0.5):.4f}", start, *cells)
    _print_table(table)


def _status(client: RecommenderClient, options: argparse.Namespace) -> None:
    versions = client.status()
    if options.json:
        _print_json([asdict(version) for version in versions])
        return
    table = _table("version", "state", "status", "message")
    for version in versions:
        table.add_row(str(version.version), version.state, version.error_code, _plain(version.error_message))
    _print_table(table)


def _query(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "user_id": options.user,
        "history": _split(options.history),
        "query": options.query,
        "language": options.language,
        "country": options.country,
        "timestamp": options.timestamp,
    }


def _split(values: Sequence[str]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _print_recommendations(items: Sequence[Recommendation]) -> None:
    heads = list(items[0].heads)
    table = _table("#", "title", "lang", "item", "score", *(_head_name(head) for head in heads))
    for number, item in enumerate(items, start=1):
        values = [f"{item.heads[head]:.4f}" for head in heads]
        table.add_row(
            str(number),
            _plain(item.title),
            _plain(item.language),
            _plain(item.item_id),
            f"{item.score:.4f}",
            *values,
        )
    _print_table(table)


def _print_ranking(items: Sequence[RankedItem]) -> None:
    heads = list(next((item.heads for item in items if item.heads), {}))
    table = _table("#", "item", "score", *(_head_name(head) for head in heads))
    for number, item in enumerate(items, start=1):
        score = "unknown item" if item.score is None else f"{item.score:.4f}"
        values = [f"{item.heads[head]:.4f}" if item.heads else "" for head in heads]
        table.add_row(str(number), _plain(item.item_id), score, *values)
    _print_table(table)


def _head_name(head: str) -> str:
    event = head.removeprefix("probability_")
    return f"p({event})" if event != head else head.replace("_", " ")


def _numbered(texts: Sequence[str]) -> list[str]:
    return [f"cos {number}" for number in range(1, len(texts) + 1)] if len(texts) > 1 else []


def _table(*columns: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        numeric = column in ("#", "score", "norm") or column.startswith(("p(", "cos ", "predicted"))
        table.add_column(column, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    return table


def _print_table(table: Any) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _UNBOUNDED_WIDTH, highlight=False)
    # Captured, since rich ends the process by itself when the reader of a pipe has gone.
    with console.capture() as captured:
        console.print(table)
    sys.stdout.write(captured.get())


def _plain(text: str) -> Any:
    """Titles may hold square brackets and control characters: neither is markup here."""
    from rich.text import Text

    return Text("".join(c if c.isprintable() else " " for c in text))


def _print_json(value: object) -> None:
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2)
    print()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(BadRequestError.exit_code, f"error: {message} (see `{self.prog} --help`)\n")


def _parser() -> argparse.ArgumentParser:
    connection = _Parser(add_help=False)
    group = connection.add_argument_group("server")
    group.add_argument("--address", default="localhost:8500", help="host:port (default: %(default)s)")
    group.add_argument("--model", default="recommender", help="model name (default: %(default)s)")
    group.add_argument("--model-version", type=int, help="a certain version (default: the newest)")
    group.add_argument("--timeout", type=_positive, default=10.0, help="seconds (default: %(default)s)")
    group.add_argument("--json", action="store_true", help="print JSON")

    wish = _Parser(add_help=False)
    group = wish.add_argument_group("who asks for what (all optional)")
    group.add_argument("--user", default="", metavar="ID", help="user id")
    group.add_argument("--history", action="append", default=[], metavar="ID[,ID]", help="items seen, newest last")
    group.add_argument("--query", default="", metavar="TEXT", help="free text in any language")
    group.add_argument("--language", default="", metavar="TAG", help="the user's language (BCP 47)")
    group.add_argument("--country", default="", help="the user's country")
    group.add_argument("--timestamp", type=int, metavar="SECONDS", help="unix time to recommend for")

    parser = _Parser(
        prog="python -m serving.client",
        description="Asks a model server for recommendations.",
        epilog='example: python -m serving.client recommend --query "科幻电影" --language zh --k 5',
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    recommend = commands.add_parser("recommend", parents=[wish, connection], help="the best items for a query")
    recommend.add_argument("--k", type=int, default=10, help="how many (default: %(default)s)")
    for name, text in (
        ("exclude", "items not wanted"),
        ("languages", "allowed item languages"),
        ("categories", "allowed categories"),
    ):
        recommend.add_argument(f"--{name}", action="append", default=[], metavar="A[,B]", help=text)
    recommend.add_argument("--include-seen", action="store_true", help="also items the user has seen")
    recommend.set_defaults(run=_recommend)

    rank = commands.add_parser("rank", parents=[wish, connection], help="score given items for a query")
    rank.add_argument("--items", action="append", required=True, metavar="ID[,ID]", help="item ids")
    rank.set_defaults(run=_rank)

    encode = commands.add_parser("encode", parents=[connection], help="embed texts")
    encode.add_argument("texts", nargs="+", metavar="TEXT")
    encode.set_defaults(run=_encode)

    status = commands.add_parser("status", parents=[connection], help="the model's versions and their states")
    status.set_defaults(run=_status)
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no positive number of seconds")
    return value
