"""The steps of `make demo`, which other commands take too where their results are missing."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.errors import BabelrecError
from trainer.programs import Program
from trainer.runs import Run
from trainer.task import main as task


def done(step: str, there: bool) -> bool:
    """Says whether a step has to be taken; returns ``there``."""
    print(f"{step}: {'reusing the existing result.' if there else 'starting.'}", flush=True)
    return there


def take(*arguments: object) -> None:
    """Runs a verb of `trainer.task`.

    Raises:
        KeyboardInterrupt: it was interrupted.
        BabelrecError: it failed.
    """
    status = task([str(argument) for argument in arguments])
    if status > 128:
        raise KeyboardInterrupt
    if status:
        raise BabelrecError(f"`trainer.task {arguments[0]}` failed; see its message above.")


def is_exported(run: Run, model_dir: Path, signature: str = "") -> bool:
    """Whether the newest version comes from this run, and has a signature if one is named."""
    version = newest(model_dir)
    if version is None:
        return False
    card: dict[str, Any] = json.loads((version / "assets.extra" / "model_card.json").read_text(encoding="utf-8"))
    return card["weights"] == run.weights_digest() and (not signature or signature in card["signatures"])


def newest(model_dir: Path) -> Path | None:
    """The newest version of a model; None without any."""
    versions = [path for path in model_dir.glob("*") if path.name.isdecimal()]
    return max(versions, key=lambda path: int(path.name), default=None)


def model_server(
    model_dir: Path, log: Path, ended: threading.Event | None = None, flags: Sequence[str] = ()
) -> Program:
    """A model server on a free port, which it answers.

    Args:
        model_dir: Base path of the model.
        log: Of what it prints.
        ended: Set when it ends.
        flags: In place of those that name the model.
    """
    return Program(
        "model server",
        log,
        [
            "serving.server",
            "--port=0",
            *(flags or (f"--model_name={model_dir.resolve().name}", f"--model_base_path={model_dir.resolve()}")),
        ],
        r"Running gRPC ModelServer at \S+:(\d+)",
        ended=ended,
    )
