"""Source code version of an output."""

import subprocess
from pathlib import Path


def source_commit() -> str | None:
    """Commit of the running package, with ``+`` for local changes; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(directory: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(directory), *arguments], capture_output=True, check=True, text=True
    ).stdout.strip()
