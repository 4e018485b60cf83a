"""The command line: ``serving.server.options`` as flags."""

import argparse
import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NoReturn

from serving.server.options import FLAGS, Flag, ServerOptions

_PROGRAM = "python -m serving.server"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\nTry `{self.prog} --help`.\n")


def parse(arguments: Sequence[str] | None = None) -> ServerOptions:
    """Parses the command line; if it is invalid, exits with status 2 and one line that says why."""
    parser = _parser()
    found, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(_unknown(unknown))
    given = vars(found)
    for flag in FLAGS:
        if flag.support == "refused" and given[flag.name] != flag.default:
            parser.error(f"--{flag.name} is a flag of TensorFlow Serving that this server refuses: {flag.note}")
    options = ServerOptions(**given)
    return options if options.version else _checked(parser, options)


def _parser() -> _Parser:
    parser = _Parser(
        prog=_PROGRAM,
        description="Serves SavedModels over TensorFlow Serving's gRPC and REST APIs, with TF-Text's and ScaNN's ops.",
        epilog="Flags are given as --flag=value or --flag value, true ones as --flag too. Those marked * are not in "
        "TensorFlow Serving.",
        allow_abbrev=False,
        usage="%(prog)s --model_base_path=PATH | --model_config_file=FILE [--flag=value ...]",
    )
    for flag in FLAGS:
        mark = "* " if flag.ours else ""
        support = f" [{flag.support}: {flag.note}]" if flag.support != "works" else ""
        default = "" if flag.default in ("", False, ()) else f" (default: {str(flag.default).lower()})"
        parser.add_argument(
            f"--{flag.name}",
            type=_argument_type(flag),
            default=flag.default,
            metavar=flag.kind.upper(),
            help=f"{mark}{flag.help}{default}{support}".replace("%", "%%"),
            nargs="?" if flag.kind == "bool" else None,
            const=True if flag.kind == "bool" else None,
        )
    return parser


def _argument_type(flag: Flag) -> Callable[[str], object]:
    def parse_value(text: str) -> object:
        try:
            return flag.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_value


def _unknown(arguments: Sequence[str]) -> str:
    message = f"unrecognized arguments: {' '.join(arguments)}"
    first = arguments[0].split("=")[0].lstrip("-")
    close = difflib.get_close_matches(first, [flag.name for flag in FLAGS], 1)
    return f"{message} (did you mean --{close[0]}?)" if close else message


def _checked(parser: _Parser, options: ServerOptions) -> ServerOptions:
    if not options.model_config_file:
        if not options.model_base_path:
            parser.error(
                "--model_base_path is required: the directory that holds the version directories (1, 2, ...); or give "
                "--model_config_file"
            )
        if not options.model_name:
            parser.error("--model_name must not be empty")
        if "://" not in options.model_base_path:
            options = replace(options, model_base_path=os.path.abspath(options.model_base_path))
        elif not options.model_base_path.startswith("file://"):
            parser.error(
                f"--model_base_path={options.model_base_path}: only local directories can be served; mount the bucket "
                "or share, or copy the versions"
            )
    if options.batching_parameters_file and not options.enable_batching:
        parser.error("--batching_parameters_file is given without --enable_batching")
    if options.rest_api_port > 0 and options.rest_api_port == options.port:
        parser.error("--rest_api_port must not be the same as --port")
    parallelism = "tensorflow_session_parallelism", "tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism"
    if all(getattr(options, name) for name in parallelism):
        parser.error(
            "give either --tensorflow_session_parallelism or --tensorflow_intra_op_parallelism and "
            "--tensorflow_inter_op_parallelism"
        )
    return options
