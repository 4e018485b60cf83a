"""The Grafana dashboards: each query returns data from a Prometheus that scrapes a live server or service."""

import itertools
import json
import math
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import yaml
from tensorflow_serving.apis import model_management_pb2

from serving.native.library import why_not
from serving.service.store import open_store
from serving.service.types import Event, Item, ShownItem, ShownRecommendation
from tests.conformance.server import free_ports
from tests.serving.live import LiveServer, wait_for
from tests.serving.models import copy_version, write_warm_up
from tests.serving.server.api.test_rpc import RECOMMEND, request_of
from tests.serving.service.api.inside import add_keys, event
from tests.serving.service.api.live import Live

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed. Remedy: apt-get install prometheus"
)
_DEPLOY = Path(__file__).resolve().parents[2] / "serving" / "deploy"
_BATCHING = "max_batch_size { value: 8 } num_batch_threads { value: 1 } pad_variable_length_inputs: true"
_SECONDS = 120.0
_WAYS = [
    pytest.param("on", marks=pytest.mark.skipif(why_not() is not None, reason=str(why_not()))),
    "off",
]


def queries(name: str, job: str) -> Iterator[tuple[str, str]]:
    """Title of the panel, and its query, of a dashboard about a job."""
    text = (_DEPLOY / "grafana" / "dashboards" / f"{name}.json").read_text(encoding="utf-8")
    for panel in json.loads(text)["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"].replace("$__rate_interval", "1m").replace("$job", job)
            yield panel["title"], re.sub(r"\$(model|version|language)\b", ".*", query)


@contextmanager
def prometheus(folder: Path, name: str, target: str) -> Iterator[str]:
    """Prometheus as deployed, with one job's address and another scrape interval; yields its own address."""
    settings = yaml.safe_load((_DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    settings["global"]["scrape_interval"] = "1s"
    (job,) = [each for each in settings["scrape_configs"] if each["job_name"] == name]
    job.pop("dns_sd_configs", None)
    job["static_configs"] = [{"targets": [target]}]
    settings["scrape_configs"] = [job]
    shutil.copy(_DEPLOY / "prometheus" / "alerts.yml", folder)
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    (port,) = free_ports(1)
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={file}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(_SECONDS)


def ask(address: str, query: str) -> Any:
    """The result of a query; nothing while Prometheus is starting."""
    url = f"{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            document = json.load(answer)
    except (ConnectionError, urllib.error.URLError):
        return []
    assert document["status"] == "success", document
    return document["data"]["result"]


def send(server: LiveServer) -> None:
    """Requests of every kind: good and bad, over gRPC and REST."""
    server.prediction.Predict(request_of(RECOMMEND), timeout=60)
    with pytest.raises(grpc.RpcError):
        server.prediction.Predict(request_of({}), timeout=60)
    url = f"http://localhost:{server.rest_port}/v1/models/recommender:predict"
    inputs = {name: value.numpy().tolist() for name, value in RECOMMEND.items()}
    for body, status in ((inputs, 200), ({"query": 1}, 400)):
        encoded = json.dumps({"inputs": body}, default=lambda value: value.decode()).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(url, encoded), timeout=60) as answer:
                found = answer.status
        except urllib.error.HTTPError as error:
            found = error.code
        assert found == status


def reload(server: LiveServer) -> None:
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(
        name="recommender", base_path=str(server.base_path), model_platform="tensorflow"
    )
    response = server.models.HandleReloadConfigRequest(request, timeout=60)
    assert response.status.error_code == 0, response


@pytest.mark.parametrize("native", _WAYS)
def test_every_panel_has_data(exports: dict[int, Path], tmp_path: Path, native: str) -> None:
    base = tmp_path / "models"
    base.mkdir()
    write_warm_up(copy_version(exports[1], base / "1"), [request_of(RECOMMEND)])
    (tmp_path / "batching.config").write_text(_BATCHING)
    with LiveServer(
        base,
        "--enable_batching",
        f"--batching_parameters_file={tmp_path / 'batching.config'}",
        f"--native_predict={native}",
        "--rest_api_port=-1",
        f"--monitoring_config_file={_DEPLOY / 'config' / 'monitoring.config'}",
    ) as server:
        send(server)
        reload(server)
        with prometheus(tmp_path, "model-server", f"localhost:{server.rest_port}") as address:
            check_panels(address, "model-server", tmp_path, lambda: send(server))
            # The values of the dashboard's two variables.
            (models,) = ask(address, "group by (job, model_name) (:tensorflow:serving:request_count)")
            assert models["metric"] == {"job": "model-server", "model_name": "recommender"}


def check_panels(address: str, name: str, folder: Path, traffic: Callable[[], None], job: str = "") -> None:
    """Each query of a dashboard, of the job of its name if no other is given, must have finite values under traffic."""
    for title, query in queries(name, job or name):
        found: list[Any] = []

        def is_answered(query: str = query, found: list[Any] = found) -> bool:
            # A rate needs two samples of a metric, and some traffic between them.
            traffic()
            found[:] = ask(address, query)
            return bool(found) and all(math.isfinite(float(sample["value"][1])) for sample in found)

        try:
            wait_for(is_answered, _SECONDS, title)
        except AssertionError:
            log = (folder / "prometheus.log").read_text(encoding="utf-8", errors="replace")
            raise AssertionError(f"{title}: {query} gives {found}\n{log[-2000:]}") from None


def test_every_panel_of_the_service_has_data(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    with open_store(f"sqlite:///{store}") as opened:
        keys = add_keys(opened)
    numbers = itertools.count()
    with Live(f"sqlite:///{store}") as live, httpx.Client(base_url=f"http://127.0.0.1:{live.port}") as client:
        client.headers["Authorization"] = f"Bearer {keys['app']}"

        def traffic() -> None:
            client.post("/v1/recommendations", json={"user_id": "大輔", "k": 3}).raise_for_status()
            client.post("/v1/events", json={"events": [event(next(numbers))]}).raise_for_status()
            assert client.post("/v1/recommendations", json={"k": "three"}).status_code == 422

        with prometheus(tmp_path, "recommendation-service", f"localhost:{live.port}") as address:
            check_panels(address, "recommendation-service", tmp_path, traffic)
            (job,) = ask(address, "group by (job) (babelrec_service_queued_events)")
            assert job["metric"] == {"job": "recommendation-service"}
            # Nothing is wrong, so nothing is reported.
            assert not ask(address, "ALERTS")


def test_every_panel_of_the_outcomes_has_data(tmp_path: Path) -> None:
    url, now = f"sqlite:///{tmp_path / 'store.db'}", time.time() - 60
    with open_store(url) as store:
        add_keys(store)
        store.put_items([Item(item_id="🫖1", language="ko")])
        store.log_recommendations(
            [
                ShownRecommendation(
                    recommendation_id=f"r{number}",
                    timestamp=now,
                    user_id=f"민수{number}",
                    language="ko",
                    model_version=3,
                    items=[ShownItem(item_id=f"🫖{place}", score=0.0) for place in range(1 + number % 3)],
                )
                for number in range(40)
            ]
        )
        kinds = {"click": None, "purchase": 9.5, "rating": 4.0, "view": 30.0}
        store.append_events(
            [
                Event(
                    event_id=f"{kind}{number}",
                    event=kind,
                    timestamp=int(now) + 1,
                    user_id=f"민수{number}",
                    item_id="🫖0",
                    recommendation_id=f"r{number}",
                    value=None if value is None else value + number % 2,
                )
                for number in range(30)
                for kind, value in kinds.items()
            ]
        )
    job = "recommendation-service"
    with (
        Live(url, "--outcome_seconds", "1") as live,
        prometheus(tmp_path, job, f"localhost:{live.port}") as address,
    ):
        check_panels(address, "recommendation-outcomes", tmp_path, lambda: None, job)
        (series,) = ask(address, "group by (model_version, language) (babelrec_service_outcome)")
        assert series["metric"] == {"model_version": "3", "language": "ko"}
