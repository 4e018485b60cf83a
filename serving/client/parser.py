"""The argument parser of the command line."""

import argparse
import math
from typing import NoReturn

from serving import contract

# What a wrong request exits with, too.
_USAGE_STATUS = 2

_EPILOG = """examples:
  python -m serving.client recommend --query "科幻电影" --language zh --k 5
  python -m serving.client status --address grpcs://models.example:443 --tls-ca ca.pem
  python -m serving.client recommend --user 42 --address host:8500 --fallback http://host:8501

exit status: 0 success, 1 the server failed, 2 invalid request, 3 no server, 4 timeout, 5 no such model, 6 overloaded,
7 credentials required
`COMMAND --help` shows each command's options."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(_USAGE_STATUS, f"error: {message} (see `{self.prog} --help`)\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser; ``command`` in its result is the command's name."""
    parser = _Parser(
        prog="python -m serving.client",
        description="Queries a model server over gRPC or REST.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    connection, query, selection = _connection(), _query(), _selection()

    def add(name: str, text: str, example: str, *parents: _Parser) -> _Parser:
        return commands.add_parser(
            name,
            parents=[*parents, connection],
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog="\n".join(
                ["examples:", *(f"  python -m serving.client {name} {line}" for line in example.split("\n"))]
            ),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    add(
        "recommend",
        "the best items for a query",
        '--user 42 --language es --k 10\n--query "science fiction" --languages zh,en --exclude 50 --json',
        query,
        selection,
    )
    add(
        "retrieve",
        "candidates for a query, without the ranking stage",
        "--history 50,181 --k 200",
        query,
        selection,
    )
    rank = add("rank", "score given items for a query", "--user 42 --items 1,2,3", query)
    rank.add_argument("--items", action="append", required=True, metavar="ID[,ID]", help="item ids")
    encode = add("encode", "embed texts", '"science fiction" "공상과학"')
    encode.add_argument("texts", nargs="+", metavar="TEXT")
    _add_predict(
        add(
            "predict",
            "call any signature with inputs in JSON",
            '--signature encode_text --inputs \'{"text": ["a", {"b64": "/w=="}]}\' --output embeddings\n'
            "--signature rank --inputs @request.json --json",
        )
    )
    add(
        "status", "the model's versions and their states", "--model recommender\n--address http://localhost:8501 --json"
    )
    add("metadata", "the model's signatures", "--model-label stable")
    health = add("health", "whether the server serves; exit status 0 if so, else 1", "--timeout 2\nrecommender")
    health.add_argument("service", nargs="?", default="", metavar="SERVICE", help="a model, or nothing for the server")
    reload = add("reload", "make the server load a new configuration (gRPC only)", "models.config --timeout 120")
    reload.add_argument(
        "file", metavar="FILE", help="a model_config_file with ALL models to serve, in text form; - is standard input"
    )
    return parser


def _connection() -> _Parser:
    parser = _Parser(add_help=False)
    group = parser.add_argument_group("server")
    group.add_argument(
        "--address",
        default="localhost:8500",
        help="gRPC: host:port, grpcs://host:port (TLS), unix:/path, dns:///host:port; "
        "REST: http://host:port, https://host:port (default: %(default)s)",
    )
    group.add_argument("--fallback", metavar="URL", help="REST address to use when the gRPC one can't be reached")
    group.add_argument("--model", default="recommender", help="model name (default: %(default)s)")
    group.add_argument("--model-version", type=int, metavar="N", help="a specific version (default: the newest)")
    group.add_argument("--model-label", metavar="LABEL", help="the version behind a label")
    group.add_argument("--timeout", type=_positive, default=10.0, help="seconds (default: %(default)s)")
    group.add_argument(
        "--retries",
        type=int,
        choices=range(5),
        default=2,
        metavar="N",
        help="retries when the server is unavailable, 0 to 4 (default: %(default)s)",
    )
    group.add_argument("--wait-for-ready", action="store_true", help="wait for a server until the timeout (gRPC)")
    group.add_argument(
        "-H", "--metadata", action="append", default=[], metavar="KEY=VALUE", help="header to send; may be repeated"
    )
    group.add_argument("--compression", choices=["gzip"], help="compress requests")
    group.add_argument(
        "--load-balancing", choices=["pick_first", "round_robin"], help="policy among a name's addresses (gRPC)"
    )
    group.add_argument("--json", action="store_true", help="print JSON")
    group = parser.add_argument_group("TLS (PEM files; each turns TLS on)")
    group.add_argument("--tls", action="store_true", help="use TLS and trust the public certificate authorities")
    group.add_argument("--tls-ca", metavar="FILE", help="authorities trusted to sign the server's certificate")
    group.add_argument("--tls-cert", metavar="FILE", help="the client's certificate")
    group.add_argument("--tls-key", metavar="FILE", help="its private key")
    group.add_argument("--tls-server-name", metavar="NAME", help="the name in the server's certificate")
    return parser


def _query() -> _Parser:
    parser = _Parser(add_help=False)
    group = parser.add_argument_group("the query (all optional)")
    group.add_argument("--user", default="", metavar="ID", help="user id")
    group.add_argument("--history", action="append", default=[], metavar="ID[,ID]", help="items seen, newest last")
    group.add_argument("--query", default="", metavar="TEXT", help="free text in any language")
    group.add_argument("--language", default="", metavar="TAG", help="the user's language (BCP 47)")
    group.add_argument("--country", default="", help="the user's country")
    group.add_argument("--timestamp", type=int, metavar="SECONDS", help="unix time to recommend for")
    return parser


def _selection() -> _Parser:
    parser = _Parser(add_help=False)
    group = parser.add_argument_group("which items")
    group.add_argument("--k", type=int, default=10, help="how many (default: %(default)s)")
    for name, text in (
        ("exclude", "items to leave out"),
        ("languages", "allowed item languages"),
        ("categories", "allowed categories"),
    ):
        group.add_argument(f"--{name}", action="append", default=[], metavar="A[,B]", help=text)
    group.add_argument("--include-seen", action="store_true", help="also items the user has seen")
    return parser


def _add_predict(parser: _Parser) -> None:
    parser.add_argument("--signature", default=contract.DEFAULT, metavar="NAME", help="default: %(default)s")
    parser.add_argument(
        "--inputs",
        required=True,
        metavar="JSON",
        help='{"NAME": nested lists, ...} as in REST; bytes as {"b64": ...}; @FILE reads a file, - standard input',
    )
    parser.add_argument(
        "--output", action="append", default=[], metavar="NAME", help="output to return; may be repeated (default: all)"
    )


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of seconds")
    return value
