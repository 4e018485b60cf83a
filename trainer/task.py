"""The command line: ``python -m trainer.task VERB``. Each verb's --help describes its input and output."""

import argparse
import logging
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.logging import RichHandler

from trainer import __version__, interrupts
from trainer.config.loading import load_config
from trainer.errors import BabelrecError
from trainer.evaluation.protocols.registry import DEFAULT, PROTOCOLS
from trainer.files import cache_root
from trainer.storage import explain

if TYPE_CHECKING:
    from trainer.evaluation.report.contents import EvaluationReport
    from trainer.runs import Run

_LOG = logging.getLogger("trainer")


def main(arguments: list[str] | None = None) -> int:
    """Runs a verb; returns the exit code.

    0: done; 1: invalid input, or output that can't be written; 130, 143: SIGINT, SIGTERM.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.WARNING,
        format="%(message)s",
        handlers=[
            RichHandler(
                console=Console(stderr=True),
                show_path=False,
                show_level=False,
                omit_repeated_times=False,
                log_time_format="%H:%M:%S",
            )
        ],
    )
    # Keras warns about every layer that it can't rebuild from a config; nothing here is rebuilt that way.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    _LOG.setLevel(logging.DEBUG if options.verbose else logging.INFO)
    run: Callable[[argparse.Namespace], None] = options.run
    with interrupts.raised():
        try:
            run(options)
            sys.stdout.flush()
        except BaseException as error:
            return _end(error)
    return 0


def _end(error: BaseException) -> int:
    """Turns an error into a line on stderr and an exit code; unexpected errors are raised."""
    interrupts.defer()
    number = interrupts.received()
    # Not by type alone: a library may have wrapped it.
    if number is not None or isinstance(error, KeyboardInterrupt):
        number = number or signal.SIGINT
        ending = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
        print(f"{ending}; run the same command again to continue.", file=sys.stderr)
        return 128 + number
    text = str(error) if isinstance(error, BabelrecError) else explain(error)
    if text is None:
        raise error
    _LOG.debug("Where it happened:", exc_info=error)
    print(f"error: {text}", file=sys.stderr)
    _give_up_output()
    return 1


def _give_up_output() -> None:
    """Drops unwritable output to stdout, which Python would try to flush again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.task",
        description="Babelrec: train, evaluate and export a recommender for catalogues in many languages.",
        epilog="Settings are described in docs/configuration.md; see configs/ for examples.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--verbose", action="store_true", help="log more details")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    _verb(verbs, "settings", _settings, "print every setting with its default and meaning")

    data = _verb(
        verbs, "data", _data, "prepare and check a config's dataset, and report its content and what the settings leave"
    )
    _add_config(data)
    data.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="file or directory for the HTML page with plots (default: reports/NAME.html in the cache)",
    )

    fit = _verb(verbs, "fit", _fit, "train a model; resumes where a killed run stopped")
    _add_config(fit)
    _add_run_dir(fit, "run directory: settings, checkpoints, weights, TensorBoard logs")

    finetune = _verb(
        verbs,
        "finetune",
        _finetune,
        "fine-tune a finished run on another dataset and report quality on both; writes finetune.json and .md",
    )
    finetune.add_argument("--from", dest="source", type=Path, required=True, metavar="DIR", help="a finished run")
    _add_config(finetune)
    _add_run_dir(finetune, "directory of the new run")

    evaluate = _verb(verbs, "evaluate", _evaluate, "evaluate a run; writes evaluation.json, evaluation.md and plots")
    _add_run_dir(evaluate, "a finished run")
    evaluate.add_argument(
        "--protocol",
        choices=tuple(PROTOCOLS),
        default=DEFAULT,
        help="; ".join(f"{each.name}: {each.help}" for each in PROTOCOLS.values())
        + " (default: %(default)s; docs/evaluation.md)",
    )
    evaluate.add_argument("--target", type=Path, metavar="YAML", help="config whose data section names another dataset")
    _add_overrides(evaluate, "override a setting of --target")

    compare = _verb(verbs, "compare", _compare, "compare runs: metrics, settings that differ, training curves")
    compare.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="evaluated run directories; the first is the baseline"
    )
    compare.add_argument(
        "--report",
        default="evaluation",
        metavar="STEM",
        help="which report, such as evaluation-p2-kmrd (default: %(default)s)",
    )
    compare.add_argument(
        "--output", type=Path, metavar="DIR", help="also write compare.json, compare.md and plots to this directory"
    )

    export = _verb(verbs, "export", _export, "write a SavedModel version that a model server can load")
    _add_run_dir(export, "a finished run")
    _add_overrides(export, "override an export setting of the run, for example export.index=scann")
    export.add_argument(
        "--model-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="base path of the model; the next number below it becomes the version",
    )
    return parser


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], None],
    text: str,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.set_defaults(run=run)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="YAML", help="settings; see configs/")
    _add_overrides(parser, "override a setting, for example training.epochs=3")


def _add_overrides(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help=f"{text}; may be repeated"
    )


def _add_run_dir(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--run-dir", type=Path, required=True, metavar="DIR", help=text)


def _settings(options: argparse.Namespace) -> None:
    from trainer.settings_reference import settings_markdown

    print(settings_markdown(), end="")


def _data(options: argparse.Namespace) -> None:
    from trainer.data.description import describe
    from trainer.data.sources import prepare
    from trainer.evaluation.data_report import print_description, write_page

    config = load_config(options.config, options.overrides)
    facts = describe(prepare(config.data.source), config)
    print_description(facts)
    report: Path = options.report or cache_root() / "reports" / f"{config.name}.html"
    if report.is_dir():
        report = report / f"{config.name}.html"
    try:
        write_page(facts, report)
    except OSError as error:
        raise BabelrecError(f"Can't write the report {report}: {error.strerror}. Use another --report.") from error
    print(f"Report with plots: {report.absolute()}", flush=True)
    if facts.fault:
        raise BabelrecError(facts.fault)


def _fit(options: argparse.Namespace) -> None:
    from trainer.training.fit import fit

    config = load_config(options.config, options.overrides)
    started = time.monotonic()
    fit(config, options.run_dir)
    print(f"The run is in {options.run_dir} ({time.monotonic() - started:.0f} s). Next:")
    print(f"  python -m trainer.task evaluate --run-dir {shlex.quote(str(options.run_dir))}")


def _finetune(options: argparse.Namespace) -> None:
    from trainer.runs import Run
    from trainer.training.finetune import finetune, finetune_markdown

    config = load_config(options.config, options.overrides)
    print(finetune_markdown(finetune(config, Run.open(options.source), options.run_dir)), end="")
    print(f"The run is in {options.run_dir}; {options.run_dir / 'source'} is the source's model with the same weights.")


def _evaluate(options: argparse.Namespace) -> None:
    from trainer.evaluation.report.tables import print_table
    from trainer.evaluation.report.writing import write
    from trainer.runs import Run
    from trainer.training.loggers import log_files

    run = Run.open(options.run_dir)
    target = None if options.target is None else load_config(options.target, options.overrides)
    if target is None and options.overrides:
        raise BabelrecError("--set overrides a setting of --target, which is not given.")
    protocol = PROTOCOLS[options.protocol]
    report = protocol.evaluate(run, target)
    stem = protocol.stem(report, target)
    print_table(report)
    files = write(report, run.path, stem=stem)
    log_files(run, files, {f"{stem}/{name}": metric.value for name, metric in report.metrics.items()})
    print("Written: " + ", ".join(str(file) for file in files))
    if options.protocol == DEFAULT:
        _advise(report, run)
        where = shlex.quote(str(options.run_dir))
        print("Next:")
        print(f"  python -m trainer.task export --run-dir {where} --model-dir models/{run.config.name}")


def _advise(report: "EvaluationReport", run: "Run") -> None:
    from trainer.evaluation.advice import below_popularity

    popular = next((result for result in report.baselines if result.model == "popularity"), None)
    if popular is None:
        return
    ours, theirs = ({name: metric.value for name, metric in each.metrics.items()} for each in (report, popular))
    warning = below_popularity(ours, theirs, "test part", run.config)
    if warning is not None:
        _LOG.warning("%s", warning)


def _compare(options: argparse.Namespace) -> None:
    from trainer.evaluation.report.compare_output import print_comparison, write_comparison
    from trainer.evaluation.report.compare_runs import compare_runs

    comparison = compare_runs(options.runs, stem=options.report, curves=options.output is not None)
    print_comparison(comparison)
    if options.output is not None:
        print("Written: " + ", ".join(str(file) for file in write_comparison(comparison, options.output)))


def _export(options: argparse.Namespace) -> None:
    from trainer.export.export import export
    from trainer.runs import Run
    from trainer.training.loggers import log_files

    for override in options.overrides:
        if not override.startswith("export."):
            raise BabelrecError(f"--set {override!r}: only `export` settings can change after training.")
    run = Run.open(options.run_dir, options.overrides)
    version = export(run, options.model_dir)
    log_files(run, [version / "assets.extra" / "model_card.json"])
    print(f"Exported {version}. Serve it:")
    base = version.parent.resolve()
    print(f"  python -m serving.server --port=8500 --model_name={base.name} --model_base_path={base}")


if __name__ == "__main__":
    sys.exit(main())
