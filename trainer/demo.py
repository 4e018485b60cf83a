"""``make demo``: the complete pipeline on MovieLens-100k, with a summary of the results."""

import argparse
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from serving.client import Query, Recommendation, RecommenderClient, ServingError
from trainer.config.loading import load_config
from trainer.data.sources import prepare
from trainer.errors import BabelrecError
from trainer.evaluation.report.contents import EvaluationReport, load
from trainer.runs import Run
from trainer.steps import done, is_exported, model_server, newest, take

# One description, as users of each language would type it.
DESCRIPTION = {
    "en": ("English", "science fiction in outer space"),
    "zh": ("Chinese", "外太空科幻片"),
    "ar": ("Arabic", "خيال علمي في الفضاء الخارجي"),
    "th": ("Thai", "นิยายวิทยาศาสตร์ในอวกาศ"),
    "ko": ("Korean", "우주를 배경으로 한 공상 과학"),
    "ja": ("Japanese", "宇宙を舞台にしたSF"),
    "ru": ("Russian", "научная фантастика в открытом космосе"),
    "es": ("Spanish", "ciencia ficción en el espacio exterior"),
    "de": ("German", "Science-Fiction im Weltraum"),
    "fr": ("French", "science-fiction dans l'espace"),
    "tr": ("Turkish", "uzayda geçen bilim kurgu"),
}
# Titles as users type them: with a typo, in another script, in translation.
NAMES = ("toy stroy", "Terminatr", "jurasic prak", "스타워즈", "Le Silence des agneaux", "玩具总动员")
_USER = "42"
_SHOWN = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the missing steps (fit, evaluate, export), serves the model and prints recommendations."""
    options = _parser().parse_args(arguments)
    started = time.monotonic()
    run_dir, model_dir = options.run_dir, options.model_dir
    try:
        run = Run.create(run_dir, load_config(options.config))
        if not done("Training", run.finished):
            take("fit", "--config", options.config, "--run-dir", run_dir)
        if not done("Evaluation", (run_dir / "evaluation.json").exists()):
            take("evaluate", "--run-dir", run_dir)
        if not done("Export", is_exported(run, model_dir)):
            take("export", "--run-dir", run_dir, "--model-dir", model_dir)
        log = model_dir.parent / "server.log"
        print(f"Serving: starting the model server (log: {log}).", flush=True)
        with (
            model_server(model_dir, log) as server,
            RecommenderClient(f"localhost:{server.wait()}", model_dir.name, timeout=30.0) as client,
        ):
            _show(run, load(run_dir), model_dir, client, time.monotonic() - started)
    except (BabelrecError, ServingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer.demo", description=main.__doc__)
    parser.add_argument("--config", type=Path, default=Path("configs/quickstart.yaml"), help="config to train")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/quickstart"), help="run directory")
    parser.add_argument(
        "--model-dir", type=Path, default=Path("models/recommender"), help="export directory of the model's versions"
    )
    return parser


def _show(run: Run, report: EvaluationReport, model_dir: Path, client: RecommenderClient, seconds: float) -> None:
    console = Console(width=max(110, Console().width))
    dataset = prepare(run.config.data.source)
    rows = dataset.rows
    console.rule("[bold]Babelrec")
    console.print(
        f"Trained on [bold]{dataset.name}[/]: {rows['interactions']:,} ratings of {rows['items']:,} films"
        + (f" by {rows['users']:,} users. " if "users" in rows else ". ")
        + f"Test: {report.sizes.test:,} held-out ratings of 4 and 5."
        if report.sizes
        else ""
    )
    popular = next(result for result in report.baselines if result.model == "popularity")
    table = Table(title="Whole request (retrieval, then ranking) on the test part", title_justify="left")
    table.add_column("")
    for name in ("recall@10", "recall@20", "ndcg@10"):
        table.add_column(name, justify="right")
    for label, metrics in ((f"{run.config.name}", report.metrics), ("popularity", popular.metrics)):
        table.add_row(label, *(f"{metrics[name].value:.4f}" for name in ("recall@10", "recall@20", "ndcg@10")))
    console.print(table)
    console.print(f"Serving version [bold]{newest(model_dir)}[/] with gRPC; each result below is one request to it.\n")
    for_user = client.recommend(Query(user_id=_USER, k=_SHOWN))
    listing = Table(title=f"Ten films for user {_USER}", title_justify="left")
    listing.add_column("#", justify="right")
    listing.add_column("film")
    heads = sorted(for_user[0].heads)
    for head in heads:
        listing.add_column(head.replace("_", " "), justify="right")
    for place, item in enumerate(for_user, start=1):
        listing.add_row(str(place), item.title, *(f"{item.heads[head]:.2f}" for head in heads))
    console.print(listing)
    _show_descriptions(console, client)
    _show_names(console, client)
    console.print(
        f"\nDone in {seconds:.0f} s. Next: [bold]make serve[/] and `python -m serving.client recommend --user 7`, "
        "[bold]make tensorboard[/], or your own data (README.md)."
    )


def _show_descriptions(console: Console, client: RecommenderClient) -> None:
    answers = client.recommend_batch([Query(query=text, k=_SHOWN) for _, text in DESCRIPTION.values()])
    english = _ids(answers[list(DESCRIPTION).index("en")])
    table = Table(title="One description in eleven languages (the films' titles are English)", title_justify="left")
    table.add_column("language")
    table.add_column("typed")
    table.add_column("first three films", ratio=1)
    table.add_column(f"of {_SHOWN} as in English", justify="right")
    for (name, text), answer in zip(DESCRIPTION.values(), answers, strict=True):
        titles = " · ".join(textwrap.shorten(item.title, 24, placeholder=" …") for item in answer[:3])
        table.add_row(name, text, titles, str(len(english & _ids(answer))))
    console.print(table)


def _show_names(console: Console, client: RecommenderClient) -> None:
    table = Table(title="Titles, as users type them", title_justify="left")
    table.add_column("typed")
    table.add_column("first three films")
    for text, answer in zip(NAMES, client.recommend_batch([Query(query=text, k=3) for text in NAMES]), strict=True):
        table.add_row(text, " · ".join(textwrap.shorten(item.title, 30, placeholder=" …") for item in answer))
    console.print(table)


def _ids(items: list[Recommendation]) -> set[str]:
    return {item.item_id for item in items}


if __name__ == "__main__":
    sys.exit(main())
