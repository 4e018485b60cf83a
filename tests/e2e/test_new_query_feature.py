"""docs/extending.md's walk to a new query feature: its lines, put where it says, and nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = """
import json, sys
from pathlib import Path
import polars as pl
from tests.trainer.tiny import tiny_config, tiny_dataset
from serving.client import Query
from serving.client.types import inputs_of
from trainer.data.dataset import write_dataset
from trainer.data.description import describe
from trainer.export.export import export
from trainer.training.fit import fit
import tensorflow as tf

folder = Path(sys.argv[1])
plain = tiny_dataset(folder / "plain")
taste = pl.col("user_id").str.slice(1).cast(pl.Int32) % 2
device = pl.when(taste == 0).then(pl.lit("phone")).otherwise(pl.lit("desktop"))
dataset = write_dataset(
    folder / "dataset", name="tiny", description="", licence="", homepage="", items=plain.items().collect(),
    interactions=plain.interactions().with_columns(device=device).collect(),
    users=plain.users().with_columns(device=pl.lit("phone")).collect(),
)
run = fit(tiny_config(dataset.path), folder / "run")
served = tf.saved_model.load(str(export(run, folder / "models"))).signatures["recommend"]

def scores(**said):
    inputs = inputs_of("recommend", [Query(history=["i0", "i1"], k=5, include_seen=True, **said)])
    given = {
        name: tf.constant(value.tolist(), tf.string, value.shape) if value.dtype == object else tf.constant(value)
        for name, value in inputs.items()
    }
    return [float(score) for score in served(**given)["scores"][0]]

print(json.dumps({
    "phone": scores(device="phone"), "desktop": scores(device="desktop"), "unsaid": scores(),
    "unknown": scores(device="television"),
    "known": json.loads(run.vocabulary.read_text())["query_values"]["device"],
}))
"""


def _edits(page: str) -> list[tuple[str, str, str]]:
    """(File, line to find, lines to add after it) of the section's steps."""
    section = page.split("## A query feature", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"`([\w/]+\.py)`, after\n+```text\n([^`]+)\n```\n+add\n+```text\n([^`]+)\n```", section)


@pytest.mark.usefixtures("cache")
def test_the_walk_gives_a_feature_that_is_learned_and_served(tmp_path: Path) -> None:
    edits = _edits((_ROOT / "docs" / "extending.md").read_text(encoding="utf-8"))
    assert 1 <= len(edits) <= 6
    for package in ("trainer", "serving"):
        shutil.copytree(_ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file, found, added in edits:
        text = (tmp_path / file).read_text(encoding="utf-8")
        assert text.count(f"{found}\n") == 1, f"{file} has changed: {found}"
        (tmp_path / file).write_text(text.replace(f"{found}\n", f"{found}\n{added}\n"), encoding="utf-8")
    (tmp_path / "program.py").write_text(_PROGRAM, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py"), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{_ROOT}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["known"] == ["desktop", "phone"]
    assert said["phone"] != said["desktop"]
    assert said["unsaid"] not in (said["phone"], said["desktop"])
    assert said["unknown"] == said["unsaid"], "an unknown value says nothing"
    helped = subprocess.run(
        [sys.executable, "-m", "serving.client", "recommend", "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--device" in helped.stdout
