"""The command line: ``python -m serving.client COMMAND``.

Only what ``--help`` and usage errors need is imported at the top; ``commands`` and the client are imported on use.
"""

import argparse
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from serving import contract
from serving.arguments import add_arguments, argument, options_of

if TYPE_CHECKING:
    from serving.client import RecommenderClient, ShardedClient, TlsOptions

# Also the exit status of an invalid request.
_USAGE_STATUS = 2

_EPILOG = """examples:
  python -m serving.client recommend --query "科幻电影" --language zh --k 5
  python -m serving.client status --address grpcs://models.example:443 --tls-ca ca.pem
  python -m serving.client recommend --user 42 --address host:8500 --fallback http://host:8501

exit status: 0 success, 1 the server failed, 2 invalid request, 3 no server, 4 timeout, 5 no such model, 6 overloaded,
7 credentials required
`COMMAND --help` shows each command's options."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0; 2 for an invalid request; 3 when no server responds; 4 after a timeout; 5 for an unknown model;
        6 when the server is overloaded; 7 when it requires credentials; 1 for any other error, and when
        ``health`` finds a server that is not serving.
    """
    found = _make_parser().parse_args(arguments)
    connection, tls = options_of(_Connection, found), options_of(_Tls, found)
    sharding = options_of(_Sharding, found) if "shards" in found else None
    ours = {"command", *(each.name for kind in (_Connection, _Tls, _Sharding) for each in fields(kind))}
    # gRPC would log each failed handshake to standard error; our error message is enough. It reads this when it is
    # imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from serving.client import ServingError, commands

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    own = {name: value for name, value in vars(found).items() if name not in ours}
    try:
        if sharding is not None and sharding.shards:
            with _sharded_client(sharding, connection, tls) as shards:
                status = commands.run_sharded(found.command, shards, own, as_json=connection.json)
        else:
            with _client(connection, tls) as client:
                status = commands.run(found.command, client, own, as_json=connection.json)
        sys.stdout.flush()
    except ServingError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return status


def _client(connection: "_Connection", tls: "_Tls") -> "RecommenderClient":
    from serving.client import RecommenderClient, RetryPolicy

    return RecommenderClient(
        connection.address,
        connection.model,
        timeout=connection.timeout,
        version=connection.model_version,
        version_label=connection.model_label,
        metadata=[_header(text) for text in connection.metadata],
        tls=_tls_options(tls),
        retry=RetryPolicy(max_attempts=connection.retries + 1),
        fallback=connection.fallback,
        wait_for_ready=connection.wait_for_ready,
        load_balancing=connection.load_balancing,
        compression=connection.compression,
    )


def _sharded_client(sharding: "_Sharding", connection: "_Connection", tls: "_Tls") -> "ShardedClient":
    from serving.client import BadRequestError, ShardedClient

    if connection.fallback is not None:
        raise BadRequestError("--fallback is one server's address: it can't be given with --shards")
    return ShardedClient(
        sharding.shards,
        connection.model,
        connection.timeout,
        partial=sharding.partial,
        client=lambda address: _client(replace(connection, address=address), tls),
    )


def _tls_options(given: "_Tls") -> "TlsOptions | None":
    from serving.client import TlsOptions

    if not (given.tls or given.ca or given.certificate or given.key or given.server_name):
        return None
    return TlsOptions(ca=given.ca, certificate=given.certificate, key=given.key, server_name=given.server_name)


def _header(text: str) -> tuple[str, str]:
    from serving.client import BadRequestError

    key, equals, value = text.partition("=")
    if not equals:
        raise BadRequestError(f"-H {text!r} must be KEY=VALUE")
    return key.strip(), value


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(_USAGE_STATUS, f"error: {message} (see `{self.prog} --help`)\n")


def _make_parser() -> argparse.ArgumentParser:
    """The parser; ``command`` in its result is the command's name."""
    parser = _Parser(
        prog="python -m serving.client",
        description="Queries a model server over gRPC or REST.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    connection = _connection()
    query = _inputs("the query (all optional)", contract.QUERY_INPUTS)
    selection = _inputs("filters and number of items", contract.FILTER_INPUTS)

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

    sharding = _Parser(add_help=False)
    add_arguments(sharding.add_argument_group("a model in shards"), _Sharding)
    add(
        "recommend",
        "recommend items for a query",
        '--user 42 --language es --k 10\n--query "science fiction" --languages zh,en --exclude 50 --json\n'
        "--shards host1:8500,host2:8500 --user 42",
        query,
        selection,
        sharding,
    )
    add(
        "retrieve",
        "retrieve candidates for a query, without the ranking stage",
        "--history 50,181 --k 200",
        query,
        selection,
        sharding,
    )
    rank = add("rank", "score given items for a query", "--user 42 --items 1,2,3", query)
    rank.add_argument("--items", action="extend", type=_items, required=True, metavar="ID[,ID]", help="item ids")
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
        "status",
        "show the states of the model's versions",
        "--model recommender\n--address http://localhost:8501 --json",
    )
    add("metadata", "show the model's signatures", "--model-label stable")
    health = add("health", "check that the server is serving; exit status 0 or 1", "--timeout 2\nrecommender")
    health.add_argument("service", nargs="?", default="", metavar="SERVICE", help="a model (default: the whole server)")
    reload = add("reload", "make the server load a new configuration (gRPC only)", "models.config --timeout 120")
    reload.add_argument(
        "file", metavar="FILE", help="a model_config_file with ALL models to serve, in text form; - is standard input"
    )
    return parser


def _connection() -> _Parser:
    parser = _Parser(add_help=False)
    add_arguments(parser.add_argument_group("server"), _Connection)
    add_arguments(parser.add_argument_group("TLS (PEM files; any of these options turns TLS on)"), _Tls)
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of seconds")
    return value


@dataclass(frozen=True)
class _Connection:
    address: str = argument(
        "--address",
        default="localhost:8500",
        help="gRPC: host:port, grpcs://host:port (TLS), unix:/path, dns:///host:port; "
        "REST: http://host:port, https://host:port (default: %(default)s)",
    )
    fallback: str | None = argument(
        "--fallback", metavar="URL", help="REST address to use when the gRPC one can't be reached"
    )
    model: str = argument("--model", default="recommender", help="model name (default: %(default)s)")
    model_version: int | None = argument(
        "--model-version", type=int, metavar="N", help="use this version (default: the newest)"
    )
    model_label: str | None = argument("--model-label", metavar="LABEL", help="use the version with this label")
    timeout: float = argument("--timeout", type=_positive, default=10.0, help="in seconds (default: %(default)s)")
    retries: int = argument(
        "--retries",
        type=int,
        choices=range(5),
        default=2,
        metavar="N",
        help="retries when the server is unavailable, 0 to 4 (default: %(default)s)",
    )
    wait_for_ready: bool = argument(
        "--wait-for-ready", action="store_true", help="wait for a server until the timeout (gRPC)"
    )
    metadata: list[str] = argument(
        "-H", "--metadata", action="append", default=[], metavar="KEY=VALUE", help="header to send; may be repeated"
    )
    compression: Literal["gzip"] | None = argument("--compression", choices=["gzip"], help="compress requests")
    load_balancing: Literal["pick_first", "round_robin"] | None = argument(
        "--load-balancing", choices=["pick_first", "round_robin"], help="policy for several server addresses (gRPC)"
    )
    json: bool = argument("--json", action="store_true", help="print JSON")


@dataclass(frozen=True)
class _Tls:
    tls: bool = argument("--tls", action="store_true", help="use TLS and trust the public certificate authorities")
    ca: str | None = argument("--tls-ca", metavar="FILE", help="authorities trusted to sign the server's certificate")
    certificate: str | None = argument("--tls-cert", metavar="FILE", help="the client's certificate")
    key: str | None = argument("--tls-key", metavar="FILE", help="its private key")
    server_name: str | None = argument(
        "--tls-server-name", metavar="NAME", help="expected name in the server's certificate"
    )


def _items(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


@dataclass(frozen=True)
class _Sharding:
    shards: list[str] = argument(
        "--shards",
        action="extend",
        type=_items,
        default=[],
        metavar="A,B",
        help="addresses of a model's shards, instead of --address",
    )
    partial: bool = argument(
        "--partial",
        action="store_true",
        default=False,
        help="answer without the items of shards that can't be asked, and name them, instead of failing",
    )


def _inputs(title: str, inputs: Mapping[str, contract.Input]) -> _Parser:
    """Options for inputs of the model, by the names of ``Query``'s fields; those not given are left out."""
    parser = _Parser(add_help=False)
    group = parser.add_argument_group(title)
    for name, spec in inputs.items():
        kind: dict[str, Any] = {}
        if spec.rank == 2:
            kind = {"action": "extend", "type": _items, "metavar": "A[,B]"}
        elif spec.dtype == "bool":
            kind = {"action": "store_true"}
        elif spec.dtype != "string":
            kind = {"type": int}
        help_text = f"{spec.meaning} (default: {spec.default})" if spec.default else spec.meaning
        flag = "--" + name.removesuffix("_id").replace("_", "-")
        group.add_argument(flag, dest=name, default=argparse.SUPPRESS, help=help_text, **kind)
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
