"""Provenance recorded in every benchmark's JSON, and the summary of timings."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from trainer.files import write_text

_REPOSITORY = Path(__file__).resolve().parent.parent


def environment(packages: Iterable[str] = ()) -> dict[str, Any]:
    """Commit, time, versions, processor and load of this machine.

    Args:
        packages: Distributions whose versions are recorded; a missing one is None.
    """
    return {
        "commit": _commit(),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": _cores(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """p5, p50, p95 (linear interpolation) and the number of samples."""
    if not samples:
        raise ValueError("percentiles of no samples")
    ordered = sorted(samples)

    def at(share: float) -> float:
        position = share * (len(ordered) - 1)
        low = int(position)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (position - low)

    return {"p5": at(0.05), "p50": at(0.5), "p95": at(0.95), "samples": len(ordered)}


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Writes the result atomically, indented, in UTF-8."""
    write_text(path, json.dumps(result, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def _commit() -> str | None:
    """The measured commit, with ``-dirty`` when tracked files differ from it; None outside git."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        result = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _cores() -> int:
    """Cores available to this process, which containers restrict."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
