"""`make live`'s program: what it starts answers, follows a click, and ends without a trace."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from serving.service.store import open_store
from tests.trainer.tiny import tiny_config, tiny_dataset
from trainer import live
from trainer.errors import BabelrecError
from trainer.runs import Run
from trainer.training.fit import fit

_REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("live")
    settings = tiny_config(
        tiny_dataset(folder / "dataset").path, training={"epochs": 1, "refit": False, "batch_size": 64}
    )
    return fit(settings, folder / "run")


@pytest.fixture(scope="module")
def program(run: Run) -> Iterator["subprocess.Popen[str]"]:
    models = run.path.parent / "models" / "recommender"
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer.live", "--no-browser", "--run-dir", run.path, "--model-dir", models],
        stdout=subprocess.PIPE,
        text=True,
        cwd=_REPOSITORY,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    yield process
    if process.poll() is None:
        process.terminate()
    process.wait(120)
    assert process.stdout is not None
    process.stdout.close()


def test_it_starts_answers_and_ends(run: Run, program: "subprocess.Popen[str]") -> None:
    assert program.stdout is not None
    printed, url, key = [], "", ""
    for line in program.stdout:
        printed.append(line)
        if found := re.search(r"(http://\S+)/console#key=(\S+)", line):
            url, key = found.groups()
            break
    assert url, printed
    for step in ("Training: reusing", "Export: starting", "Import into the store: starting", "61 items"):
        assert any(step in line for line in printed), printed
    children = psutil.Process(program.pid).children(recursive=True)
    assert len(children) >= 2
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=60) as client:
        assert "<main" in client.get("/console").text
        assert client.get("/v1/status").json() == {
            "model_version": 1,
            "degraded": False,
            "waiting_items": 0,
            "items": 61,
        }
        first = client.post("/v1/recommendations", json={"user_id": "u1", "k": 5}).json()
        clicked = first["items"][2]
        event = {
            "event_id": "c",
            "event": "click",
            "user_id": "u1",
            "item_id": clicked["item_id"],
            "recommendation_id": first["recommendation_id"],
            "position": 2,
        }
        assert client.post("/v1/events", json={"events": [event]}).json()["accepted"] == 1
        second = client.post("/v1/recommendations", json={"user_id": "u1", "k": 5}).json()
        assert clicked["item_id"] not in [item["item_id"] for item in second["items"]]
        assert client.get("/v1/users/u1/history").json()[0]["title"] == clicked["title"]
    program.send_signal(signal.SIGINT)
    assert program.wait(120) == 0
    assert not [each for each in children if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    with open_store(f"sqlite:///{run.path.parent / 'live' / 'store.db'}") as store:
        assert [each.revoked is not None for each in list(store.keys())] == [True]
        assert store.history("u1")[-1].item_id == clicked["item_id"]


def test_what_it_starts_ends_when_it_is_killed(run: Run) -> None:
    models = run.path.parent / "models" / "recommender"
    command: list[str | Path] = [sys.executable, "-m", "trainer.live", "--no-browser"]
    command += ["--run-dir", run.path, "--model-dir", models]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_REPOSITORY, env=environment) as process:
        children: list[psutil.Process] = []
        try:
            assert process.stdout is not None
            assert any("/console#key=" in line for line in process.stdout)
            children = psutil.Process(process.pid).children(recursive=True)
            assert {"serving.server", "serving.service"} <= {word for each in children for word in each.cmdline()}
            process.kill()
            _, left = psutil.wait_procs(children, timeout=120)
            assert not left
        finally:
            for each in [process, *children]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()


def test_a_program_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """Also one that is killed while the program starts."""
    script = """if True:
        import sys, time
        from pathlib import Path
        from trainer.programs import Program
        arguments = ["http.server", "0", "--bind", "127.0.0.1"]
        with Program("helper", Path(sys.argv[1]), arguments, "Serving HTTP on (.*)") as helper:
            print(helper._process.pid, flush=True)
            print(helper.wait(), flush=True)
            time.sleep(600)
    """
    for waits in (True, False):
        command = [sys.executable, "-c", script, str(tmp_path / "log")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_REPOSITORY) as process:
            assert process.stdout is not None
            helper = psutil.Process(int(process.stdout.readline()))
            if waits:
                assert process.stdout.readline().strip()
                assert "http.server" in helper.cmdline()
            process.kill()
            psutil.wait_procs([helper], timeout=60)
            try:
                assert not helper.is_running()
            finally:
                with contextlib.suppress(psutil.NoSuchProcess):
                    helper.kill()


def test_mistakes_name_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert live.main(["--no-browser", "--port", "70000"]) == 1
    assert "Remedy: give another --port" in capsys.readouterr().err
    assert live.main(["--no-browser", "--run-dir", str(tmp_path / "run"), "--config", str(tmp_path / "no.yaml")]) == 1
    assert "no.yaml" in capsys.readouterr().err


def test_a_program_that_fails_shows_its_last_words(tmp_path: Path) -> None:
    from trainer.programs import Program

    with (
        Program("helper", tmp_path / "log" / "helper.log", ["no_such_module"], "ready (.*)") as helper,
        pytest.raises(
            BabelrecError, match=r"The helper did not start; its log .*helper.log ends with: .*no_such_module"
        ),
    ):
        helper.wait()
    assert not helper.running
