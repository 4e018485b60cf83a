"""SIGTERM, SIGINT and SIGKILL at chosen times: output, leftovers, and resuming with the same command."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tensorflow as tf

from tests.trainer.tiny import tiny_config
from trainer import interrupts
from trainer.config.settings import dump_config
from trainer.data.dataset import Dataset
from trainer.files import write_text
from trainer.runs import Run
from trainer.task import main

# A verb that pauses at a chosen call: it reports so, and waits for a line or a signal.
_STOPPING = """
import importlib, select, sys
module, name, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
owner, _, attribute = name.rpartition(".")
place = importlib.import_module(module)
place = getattr(place, owner) if owner else place
real, calls = getattr(place, attribute), 0
def stopping(*arguments, **options):
    global calls
    calls += 1
    if calls == number:
        print("here", flush=True)
        # A signal that comes just before a call that blocks would be heard of only after it.
        while not select.select([sys.stdin], [], [], 0.05)[0]:
            pass
        sys.stdin.readline()
    return real(*arguments, **options)
setattr(place, attribute, stopping)
from trainer.task import main
sys.exit(main(sys.argv[4:]))
"""
_GO_ON = "run the same command again to continue.\n"


def _stopped(module: str, name: str, number: int, *arguments: object) -> "subprocess.Popen[str]":
    """A verb in a separate process, paused at call ``number`` of a function."""
    command = [sys.executable, "-c", _STOPPING, module, name, str(number), *map(str, arguments)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line == "here\n":
            return process
    pytest.fail(f"{name} was never called: {process.communicate()[1]}")


def _leftovers(directory: Path) -> list[str]:
    return [path.name for path in directory.rglob("*") if "temp" in path.name or ".tmp" in path.name]


@pytest.fixture
def settings(tiny: Dataset, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    training: dict[str, object] = {"epochs": 1, "batch_size": 64, "refit": False, "checkpoint_steps": 1000}
    write_text(path, dump_config(tiny_config(tiny.path, training=training)))
    return path


def _saved_step(run: Path) -> int:
    latest = tf.train.latest_checkpoint(str(run / "checkpoints" / "select" / "last"))
    assert latest is not None
    return int(tf.train.load_variable(latest, "step/.ATTRIBUTES/VARIABLE_VALUE"))


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGTERM, 143, "ended by SIGTERM"), (2, 130, "interrupted")]
)
def test_fit_saves_the_step_that_the_signal_came_in(
    settings: Path, cache: Path, tmp_path: Path, number: int, code: int, word: str
) -> None:
    run = tmp_path / "run"
    process = _stopped(
        "trainer.training.callbacks", "FiniteLossGuard.on_train_batch_end", 3,
        "fit", "--config", settings, "--run-dir", run,
    )  # fmt: skip
    process.send_signal(number)
    _, said = process.communicate("\n", timeout=120)
    assert process.returncode == code
    assert said.endswith(f"{word}; {_GO_ON}")
    assert "Traceback" not in said
    assert _saved_step(run) == 3
    assert _leftovers(run) == []


def test_fit_repeats_the_last_step_of_an_unvalidated_epoch(settings: Path, cache: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = _stopped(
        "trainer.evaluation.protocols.holdout", "HoldOut.metrics", 1, "fit", "--config", settings, "--run-dir", run
    )
    process.terminate()
    # No line: long work is abandoned immediately.
    assert process.wait(timeout=60) == 143
    process.communicate()
    before = _saved_step(run)
    assert before > 0
    assert main(["fit", "--config", str(settings), "--run-dir", str(run)]) == 0
    assert _saved_step(run) == before + 1


def test_export_leaves_nothing_of_a_version(tiny_run: Run, tmp_path: Path) -> None:
    models = tmp_path / "models"
    process = _stopped(
        "trainer.export.export", "write_warmup", 1, "export", "--run-dir", tiny_run.path, "--model-dir", models
    )
    assert _leftovers(models)
    process.terminate()
    assert process.wait(timeout=60) == 143
    assert process.communicate()[1].endswith(f"ended by SIGTERM; {_GO_ON}")
    assert [path.name for path in models.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("verb", "target"), [("data", "trainer.data.description.describe"), ("evaluate", "render_plots")]
)
def test_other_verbs_end_at_once(
    tiny_run: Run,
    settings: Path,
    verb: str,
    target: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = set(tiny_run.path.rglob("*"))
    target = target if "." in target else f"trainer.evaluation.report.writing.{target}"
    monkeypatch.setattr(target, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    place = ["--config", str(settings)] if verb == "data" else ["--run-dir", str(tiny_run.path)]
    assert main([verb, *place]) == 143
    assert capsys.readouterr().err.endswith(f"ended by SIGTERM; {_GO_ON}")
    assert set(tiny_run.path.rglob("*")) == before


def test_a_signal_wrapped_in_another_error_is_still_a_signal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrapping(*_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt as error:
            raise ImportError("a module failed to import") from error

    monkeypatch.setattr("trainer.task.load_config", wrapping)
    assert main(["data", "--config", "x"]) == 143
    assert capsys.readouterr().err == f"ended by SIGTERM; {_GO_ON}"
    assert interrupts.received() is None


def test_handlers_are_restored_and_threads_work_without() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interrupts.raised():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(["data", "--config", "/nowhere.yaml"])))
    thread.start()
    thread.join()
    assert codes == [1]


def test_a_signal_waits_for_the_end_of_a_step() -> None:
    with interrupts.raised():
        with pytest.raises(interrupts.Interruption), interrupts.deferred_to_steps():
            interrupts.defer()
            os.kill(os.getpid(), signal.SIGTERM)
            done = True
        assert done
    with interrupts.raised(), interrupts.deferred_to_steps():
        interrupts.defer()
        with pytest.raises(interrupts.Interruption), interrupts.immediate():
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("it continues")
        interrupts._state.received = None


@pytest.mark.timeout(1800)
def test_the_same_command_resumes_after_a_kill_at_any_time(
    tiny: Dataset, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, run, models = tmp_path / "tiny.yaml", tmp_path / "run", tmp_path / "models"
    write_text(settings, dump_config(tiny_config(tiny.path, training={"epochs": 2, "batch_size": 64, "refit": False})))
    fit = ("fit", "--config", settings, "--run-dir", run)
    for module, name, number in (
        # TensorFlow has written the parts of a checkpoint and is about to join them: ckpt-N_temp.
        ("tensorflow.python.ops.gen_io_ops", "merge_v2_checkpoints", 2),
        # Before a checkpoint is listed.
        ("tensorflow.python.checkpoint.checkpoint_management", "update_checkpoint_state_internal", 1),
        # The last write: the weights lie in their temporary directory.
        ("trainer.files", "_refuse", 2),
    ):
        process = _stopped(module, name, number, *fit)
        process.kill()
        process.communicate()
        assert not Run.open(run).finished
    assert ".weights.tmp" in _leftovers(run)
    assert main([str(each) for each in fit]) == 0
    assert _leftovers(run) == []
    export = ("export", "--run-dir", run, "--model-dir", models)
    process = _stopped("trainer.export.export", "write_warmup", 1, *export)
    process.kill()
    process.communicate()
    assert [path.name for path in models.iterdir() if path.name.isdecimal()] == []
    assert main([str(each) for each in export]) == 0
    assert sorted(path.name for path in models.iterdir()) == [".lock", "1"]
    # Leftovers of an earlier version, which wrote the weights in place, after a kill.
    (run / "weights" / "ckpt-1_temp").mkdir()
    (run / "weights" / "ckpt-1_temp" / "part-00000").touch()
    assert main([str(each) for each in export]) == 0
    assert sorted(path.name for path in models.iterdir()) == [".lock", "1", "2"]
