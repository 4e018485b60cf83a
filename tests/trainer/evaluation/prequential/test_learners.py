"""Which models are trained, and which of an earlier evaluation are used again; nothing is really trained here."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.trainer.evaluation.prequential import streams
from tests.trainer.tiny import tiny_config
from trainer.config.settings import Config
from trainer.data.dataset import Dataset
from trainer.errors import BabelrecError
from trainer.evaluation.prequential import learners
from trainer.evaluation.prequential.learners import Learners
from trainer.evaluation.prequential.windows import Window
from trainer.runs import Run

_FIRST, _SECOND = Window(1, 1_010, 1_030, 1_060), Window(2, 1_030, 1_060, 1_090)


class _Trainings:
    """Takes the place of the processes: notes their arguments and leaves runs that look finished."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.killed = False

    def __call__(self, arguments: Sequence[str], log: Path) -> float:
        given = dict(itertools.pairwise(arguments))
        self.commands.append(list(arguments))
        run_dir = Path(given["--run-dir"])
        assert not run_dir.exists()
        (run_dir / "weights").mkdir(parents=True)
        (run_dir / "config.yaml").write_bytes(Path(given["--config"]).read_bytes())
        if self.killed:
            raise KeyboardInterrupt
        (run_dir / "weights" / "checkpoint").write_text(f"{len(self.commands)}")
        return 10.0 + len(self.commands)

    @property
    def kinds(self) -> list[str]:
        return [f"{Path(each[each.index('--run-dir') + 1]).name} by {each[0]}" for each in self.commands]


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> _Trainings:
    found = _Trainings()
    monkeypatch.setattr(learners, "_run", found)
    return found


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return streams.write(tmp_path / "흐름", streams.events_of(1))


def _evaluate(dataset: Dataset, folder: Path, config: Config) -> list[float]:
    found = Learners(config, dataset, folder)
    first, second = found.retrained(_FIRST), found.retrained(_SECOND)
    updated = found.updated(_SECOND, first.run)
    assert all(each.run.finished for each in (first, second, updated))
    return [first.seconds, second.seconds, updated.seconds]


def _config(dataset: Dataset, **sections: dict[str, object]) -> Config:
    return tiny_config(dataset.path, **sections)


def test_each_is_trained_once(dataset: Dataset, trainings: _Trainings, tmp_path: Path) -> None:
    folder = tmp_path / "p5"
    seconds = _evaluate(dataset, folder, _config(dataset))
    fit, update = "retrained by trainer.task", "updated by trainer.update_once"
    assert trainings.kinds == [fit, fit, update]
    assert seconds == [11.0, 12.0, 13.0]
    assert _evaluate(dataset, folder, _config(dataset)) == seconds
    assert len(trainings.commands) == 3
    config = Run.open(folder / "before-1060" / "retrained").config
    assert config.data.split.test_fraction == config.data.split.cold_items == 0.0
    given = dict(itertools.pairwise(trainings.commands[2]))
    assert given["--from"] == str(folder / "before-1030" / "retrained")
    assert given["--data"] == str(folder / "before-1060" / "data")
    assert given["--since"] == "1030"


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ({"evaluation": {"ks": [3], "prequential": {"windows": 7}}}, []),
        ({"export": {"candidates": 9}}, []),
        ({"update": {"gate": {"least": 3}}}, []),
        ({"update": {"epochs": 5}}, ["updated"]),
        ({"training": {"epochs": 2}}, ["retrained", "retrained", "updated"]),
    ],
)
def test_what_other_settings_change_is_trained_again(
    dataset: Dataset, trainings: _Trainings, tmp_path: Path, changed: dict[str, dict[str, object]], again: list[str]
) -> None:
    _evaluate(dataset, tmp_path / "p5", _config(dataset))
    _evaluate(dataset, tmp_path / "p5", _config(dataset, **changed))
    assert [kind.partition(" ")[0] for kind in trainings.kinds[3:]] == again


def test_an_interrupted_training_starts_again(dataset: Dataset, trainings: _Trainings, tmp_path: Path) -> None:
    trainings.killed = True
    with pytest.raises(KeyboardInterrupt):
        _evaluate(dataset, tmp_path / "p5", _config(dataset))
    trainings.killed = False
    assert _evaluate(dataset, tmp_path / "p5", _config(dataset)) == [12.0, 13.0, 14.0]


def test_a_process_that_fails_is_explained(tmp_path: Path) -> None:
    log = tmp_path / "기록.log"
    with pytest.raises(BabelrecError, match=r"기록\.log ends with: .*No module named trainer\.nothing"):
        learners._run(["trainer.nothing"], log)


def test_processor_seconds_are_those_of_the_process_and_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "busy_twice.py").write_text(
        "import subprocess, sys, time\n"
        "if len(sys.argv) == 1: subprocess.run([sys.executable, __file__, 'child'], check=True)\n"
        "while time.process_time() < 0.5: pass\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    # Half a second each: neither ends before it has used that much.
    assert learners._run(["busy_twice"], tmp_path / "log") >= 1.0
