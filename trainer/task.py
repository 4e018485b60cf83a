"""The command line: ``python -m trainer.task VERB``. Each verb's --help describes its input and output."""

import argparse
import logging
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.logging import RichHandler

from serving.arguments import Dataclass, add_arguments, argument, options_of
from trainer import __version__, interrupts
from trainer.config.loading import load_config
from trainer.errors import BabelrecError
from trainer.evaluation.protocols.registry import DEFAULT, PROTOCOLS
from trainer.files import cache_root
from trainer.storage import explain

if TYPE_CHECKING:
    from trainer.data.dataset import Dataset
    from trainer.evaluation.report.contents import EvaluationReport
    from trainer.export.hand_over import Format
    from trainer.runs import Run

_config = partial(argument, "--config", type=Path, required=True, metavar="YAML", help="settings; see configs/")
_overrides = partial(argument, "--set", action="append", default=[], metavar="KEY=VALUE")
_run_dir = partial(argument, "--run-dir", type=Path, required=True, metavar="DIR")
_OVERRIDE = "override a setting, for example training.epochs=3; may be repeated"
_T = TypeVar("_T", bound=Dataclass)
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
    with interrupts.raised():
        try:
            options.run(options)
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
    """The parser; ``run`` in its result runs the verb with the options found."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.task",
        description="Babelrec: train, evaluate and export a recommender for catalogues in many languages.",
        epilog="Settings are described in docs/configuration.md; see configs/ for examples.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--verbose", action="store_true", help="log more details")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    def add(name: str, kind: type[_T], run: Callable[[_T], None], text: str) -> None:
        verb = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        add_arguments(verb, kind)
        verb.set_defaults(run=lambda found: run(options_of(kind, found)))

    add("settings", _Settings, _settings, "print every setting with its default and meaning")
    add(
        "data",
        _Data,
        _data,
        "prepare and check a config's dataset; report its content and what remains of it under the settings",
    )
    add("fit", _Fit, _fit, "train a model; resumes where a killed run stopped")
    add(
        "finetune",
        _Finetune,
        _finetune,
        "fine-tune a finished run on another dataset and report quality on both; writes finetune.json and .md",
    )
    add("evaluate", _Evaluate, _evaluate, "evaluate a run; writes evaluation.json, evaluation.md and plots")
    add("compare", _Compare, _compare, "compare runs: metrics, settings that differ, training curves")
    add("export", _Export, _export, "write a SavedModel version that a model server can load")
    add(
        "export-vectors",
        _ExportVectors,
        _export_vectors,
        "write the items' vectors in the import format of Milvus or Vertex AI Vector Search",
    )
    add("load-milvus", _LoadMilvus, _load_milvus, "load vectors of `export-vectors` into Milvus or Milvus Lite")
    add(
        "update",
        _Update,
        _update,
        "learn on from a service's store: a challenger, the gate, and a new version if it is better; a killed update "
        "continues (docs/updating.md)",
    )
    add(
        "loop",
        _Loop,
        _loop,
        "update again and again; each new version is tried on a share of the people before it serves everybody "
        "(docs/updating.md)",
    )
    return parser


@dataclass(frozen=True)
class _Settings:
    pass


def _settings(options: _Settings) -> None:
    from trainer.settings_reference import settings_markdown

    print(settings_markdown(), end="")


@dataclass(frozen=True)
class _Data:
    config: Path = _config()
    overrides: list[str] = _overrides(help=_OVERRIDE)
    report: Path | None = argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="file or directory for the HTML page with plots (default: reports/NAME.html in the cache)",
    )


def _data(options: _Data) -> None:
    from trainer.data.description import describe
    from trainer.data.sources import prepare
    from trainer.evaluation.data_report import print_description, write_page

    config = load_config(options.config, options.overrides)
    facts = describe(prepare(config.data.source), config)
    print_description(facts)
    report = options.report or cache_root() / "reports" / f"{config.name}.html"
    if report.is_dir():
        report = report / f"{config.name}.html"
    try:
        write_page(facts, report)
    except OSError as error:
        raise BabelrecError(f"Can't write the report {report}: {error.strerror}. Use another --report.") from error
    print(f"Report with plots: {report.absolute()}", flush=True)
    if facts.fault:
        raise BabelrecError(facts.fault)


@dataclass(frozen=True)
class _Fit:
    config: Path = _config()
    overrides: list[str] = _overrides(help=_OVERRIDE)
    run_dir: Path = _run_dir(help="run directory: settings, checkpoints, weights, TensorBoard logs")


def _fit(options: _Fit) -> None:
    from trainer.training.fit import fit

    config = load_config(options.config, options.overrides)
    started = time.monotonic()
    fit(config, options.run_dir)
    print(f"The run is in {options.run_dir} ({time.monotonic() - started:.0f} s). Next:")
    print(f"  python -m trainer.task evaluate --run-dir {shlex.quote(str(options.run_dir))}")


@dataclass(frozen=True)
class _Finetune:
    source: Path = argument("--from", type=Path, required=True, metavar="DIR", help="a finished run")
    config: Path = _config()
    overrides: list[str] = _overrides(help=_OVERRIDE)
    run_dir: Path = _run_dir(help="directory of the new run")


def _finetune(options: _Finetune) -> None:
    from trainer.runs import Run
    from trainer.training.finetune import finetune, finetune_markdown

    config = load_config(options.config, options.overrides)
    print(finetune_markdown(finetune(config, Run.open(options.source), options.run_dir)), end="")
    source = options.run_dir / "source"
    print(f"The run is in {options.run_dir}; {source} is the source's model with the new shared weights.")


@dataclass(frozen=True)
class _Evaluate:
    run_dir: Path = _run_dir(help="a finished run")
    protocol: str = argument(
        "--protocol",
        choices=tuple(PROTOCOLS),
        default=DEFAULT,
        help="; ".join(f"{each.name}: {each.help}" for each in PROTOCOLS.values())
        + " (default: %(default)s; docs/evaluation.md)",
    )
    target: Path | None = argument(
        "--target", type=Path, metavar="YAML", help="config whose data section names another dataset"
    )
    overrides: list[str] = _overrides(
        help="override a setting of --target, or one of the run's sections `evaluation` and `update`, for example "
        "evaluation.prequential.windows=5; may be repeated"
    )


def _evaluate(options: _Evaluate) -> None:
    from trainer.evaluation.report.tables import print_table
    from trainer.evaluation.report.writing import write
    from trainer.runs import Run
    from trainer.training.loggers import log_files

    target = None if options.target is None else load_config(options.target, options.overrides)
    own = options.overrides if target is None else []
    for override in own:
        if not override.startswith(("evaluation.", "update.")):
            raise BabelrecError(
                f"--set {override!r}: without --target only `evaluation` and `update` settings can be changed."
            )
    run = Run.open(options.run_dir, own)
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


@dataclass(frozen=True)
class _Compare:
    runs: list[Path] = argument(
        type=Path, nargs="+", metavar="RUN", help="evaluated run directories; the first is the baseline"
    )
    report: str = argument(
        "--report",
        default="evaluation",
        metavar="STEM",
        help="report to compare, such as evaluation-p2-kmrd (default: %(default)s)",
    )
    output: Path | None = argument(
        "--output", type=Path, metavar="DIR", help="also write compare.json, compare.md and plots to this directory"
    )


def _compare(options: _Compare) -> None:
    from trainer.evaluation.report.compare_output import print_comparison, write_comparison
    from trainer.evaluation.report.compare_runs import compare_runs

    comparison = compare_runs(options.runs, stem=options.report, curves=options.output is not None)
    print_comparison(comparison)
    if options.output is not None:
        print("Written: " + ", ".join(str(file) for file in write_comparison(comparison, options.output)))


_STORE = "store:"


_later = partial(
    argument,
    "--catalogue",
    metavar="DATASET|store:URL",
    help="the items of this dataset directory, or of a recommendation service's store, instead of those that the run "
    "was trained on, under the same weights",
)


@dataclass(frozen=True)
class _Export:
    run_dir: Path = _run_dir(help="a finished run")
    overrides: list[str] = _overrides(
        help="override an export setting of the run, for example export.index=scann; may be repeated"
    )
    model_dir: Path = argument(
        "--model-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="base path of the model; the next number below it becomes the version",
    )
    catalogue: str | None = _later()


@contextmanager
def _catalogue(run: "Run", given: str | None) -> Iterator["Dataset | None"]:
    """The dataset of `--catalogue`, which for a store is gone afterwards; None: the run's own."""
    from trainer.data.dataset import Dataset
    from trainer.data.stored_items import dataset_of_store

    with tempfile.TemporaryDirectory() as folder:
        if given is None:
            yield None
        elif given.startswith(_STORE):
            yield dataset_of_store(given.removeprefix(_STORE), run.dataset(), Path(folder) / "items")
        else:
            yield Dataset.load(Path(given))


def _export(options: _Export) -> None:
    from trainer.export.export import export
    from trainer.export.shards import export_shards
    from trainer.runs import Run
    from trainer.training.loggers import log_files

    run = Run.open(options.run_dir, _of_section("export", options.overrides))
    with _catalogue(run, options.catalogue) as later:
        if run.config.export.shards > 1:
            versions = export_shards(run, options.model_dir, later)
        else:
            versions = [export(run, options.model_dir, later)]
    log_files(run, [version / "assets.extra" / "model_card.json" for version in versions])
    print(f"Exported {', '.join(map(str, versions))}. Serve {'each' if len(versions) > 1 else 'it'}:")
    name = options.model_dir.resolve().name
    for place, version in enumerate(versions):
        base = version.parent.resolve()
        print(f"  python -m serving.server --port={8500 + place} --model_name={name} --model_base_path={base}")
    if len(versions) > 1:
        addresses = ",".join(f"localhost:{8500 + place}" for place in range(len(versions)))
        print(f"and ask all of them:\n  python -m serving.client recommend --shards {addresses} --model {name} --k 10")


@dataclass(frozen=True)
class _ExportVectors:
    run_dir: Path = _run_dir(help="a finished run")
    output: Path = argument("--output", type=Path, required=True, metavar="DIR", help="directory to create")
    form: "Format" = argument(
        "--format",
        choices=["milvus", "milvus-json", "vertex"],
        required=True,
        help="Parquet or JSON for Milvus's bulk import, or JSON lines for Vertex AI Vector Search",
    )
    overrides: list[str] = _overrides(help="override an export setting, for example export.items_per_file=1000000")
    catalogue: str | None = _later()


def _export_vectors(options: _ExportVectors) -> None:
    from trainer.export.hand_over import export_vectors
    from trainer.runs import Run

    run = Run.open(options.run_dir, _of_section("export", options.overrides))
    with _catalogue(run, options.catalogue) as later:
        output = export_vectors(run, options.output, options.form, later)
    print(f"Written: {output}/manifest.json and {output}/vectors.")


@dataclass(frozen=True)
class _LoadMilvus:
    vectors: Path = argument(
        "--vectors", type=Path, required=True, metavar="DIR", help="written by `export-vectors --format milvus`"
    )
    uri: str = argument("--uri", required=True, help="http://host:19530, or a file for Milvus Lite")
    collection: str = argument("--collection", required=True, metavar="NAME", help="to create")
    index: str = argument(
        "--index", default="AUTOINDEX", metavar="TYPE", help="type of its index; FLAT is exact (default: %(default)s)"
    )


def _load_milvus(options: _LoadMilvus) -> None:
    from trainer.export.milvus import load_into_milvus

    # Not an option, which other users of the machine could read.
    token = os.environ.get("MILVUS_TOKEN", "")
    count = load_into_milvus(options.vectors, options.uri, options.collection, token, options.index)
    print(f"Collection {options.collection!r} at {options.uri} holds {count:,} items.")


@dataclass(frozen=True)
class _Update:
    run_dir: Path = _run_dir(help="the first champion, a finished run; updates are kept below it")
    overrides: list[str] = _overrides(
        help="override an update setting of the run, for example update.gate.margin=0.02; may be repeated"
    )
    model_dir: Path = argument(
        "--model-dir", type=Path, required=True, metavar="DIR", help="base path of the served model"
    )
    store: str = argument("--store", metavar="URL", default="", help="of the service; default: $BABELREC_STORE")
    no_gate: bool = argument(
        "--no-gate", action="store_true", default=False, help="export the challenger even if the gate refuses it"
    )
    for_trial: bool = argument(
        "--for-trial",
        action="store_true",
        default=False,
        help="the exported version is tried before it is the next champion: what `loop` does",
    )


def _update(options: _Update) -> None:
    from trainer.data.stored_items import opened_store
    from trainer.runs import Run

    run = Run.open(options.run_dir, _of_section("update", options.overrides))
    with opened_store(_store_url(options.store)) as store:
        # Needs the service's packages: `opened_store` has said so if they are missing.
        from trainer.updating.update import update

        gate, promote = not options.no_gate, not options.for_trial
        outcome = update(store, run, options.model_dir, run.config.update, gate=gate, promote=promote)
    if outcome.verdict is None:
        print(f"Nothing to do: {outcome.new:,} new positives are too few (update.gate.least, update.gate.share).")
        return
    print(outcome.verdict.sentence)
    print(f"Report: {outcome.folder}/gate.md")
    print(f"Exported {outcome.version}." if outcome.version else "Nothing was exported.")


@dataclass(frozen=True)
class _Loop:
    run_dir: Path = _run_dir(help="the first champion, a finished run; updates are kept below it")
    overrides: list[str] = _overrides(help="override an update setting of the run; may be repeated")
    model_dir: Path = argument(
        "--model-dir", type=Path, required=True, metavar="DIR", help="base path of the served model"
    )
    base_path: Path | None = argument(
        "--base-path", type=Path, metavar="DIR", help="the same as the model server sees it (default: --model-dir)"
    )
    store: str = argument("--store", metavar="URL", default="", help="of the service; default: $BABELREC_STORE")
    model_server: str = argument(
        "--model-server", metavar="HOST:PORT", default="127.0.0.1:8500", help="gRPC address (default: %(default)s)"
    )
    model_config: Path = argument(
        "--model-config",
        type=Path,
        required=True,
        metavar="FILE",
        help="the model server's --model_config_file, in which labels move; made if there is none",
    )
    every: float = argument(
        "--every", type=float, default=86_400.0, metavar="SECONDS", help="between updates (default: a day)"
    )
    poll: float = argument(
        "--poll", type=float, default=10.0, metavar="SECONDS", help="between looks at a roll-out (default: %(default)s)"
    )
    once: bool = argument(
        "--once", action="store_true", default=False, help="do what is to be done now, and end: for a timer"
    )
    outcome_seconds: float = argument(
        "--outcome-seconds",
        type=float,
        metavar="SECONDS",
        default=3600.0,
        help="between figures of what people did, in TensorBoard; 0: none (default: an hour)",
    )
    outcome_hours: float = argument(
        "--outcome-hours", type=float, metavar="HOURS", default=24.0, help="that they are of (default: a day)"
    )


def _loop(options: _Loop) -> None:
    from trainer.data.stored_items import opened_store
    from trainer.runs import Run

    url = _store_url(options.store)
    said = ""
    with opened_store(url) as store:
        # Needs the service's packages: `opened_store` has said so if they are missing.
        from trainer.updating.loop import Loop, LoopSettings
        from trainer.updating.outcomes import OutcomeCurves

        run = Run.open(options.run_dir)
        settings = LoopSettings(
            run=run,
            model_dir=options.model_dir,
            base_path=(options.base_path or options.model_dir).absolute(),
            config=options.model_config,
            model_server=options.model_server,
            store_url=url,
            every=options.every,
            overrides=tuple(_of_section("update", options.overrides)),
        )
        loop = Loop(store, settings)
        curves = OutcomeCurves(store, run.path, options.outcome_seconds, options.outcome_hours)
        while True:
            curves.write_if_due(time.time())
            sentence = loop.step(time.time())
            # The countdown to the next update is no news.
            if sentence != said and not sentence.startswith("The next update"):
                print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {sentence}", flush=True)
                said = sentence
            if options.once:
                return
            time.sleep(options.poll)


def _of_section(section: str, overrides: list[str]) -> list[str]:
    """The overrides, all of which must be of one section."""
    for override in overrides:
        if not override.startswith(f"{section}."):
            raise BabelrecError(f"--set {override!r}: only `{section}` settings can change after training.")
    return overrides


def _store_url(given: str) -> str:
    """The store's address, which may have a password: better in the environment."""
    url = given or os.environ.get("BABELREC_STORE", "")
    if not url:
        raise BabelrecError("No store: give --store URL or set $BABELREC_STORE.")
    return url


if __name__ == "__main__":
    sys.exit(main())
