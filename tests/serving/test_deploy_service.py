"""serving/deploy: the recommendation service's files, against its code, its options and one another.

What all images, Compose files and manifests have in common is in test_deploy.py. No image is built and no cluster is
asked here.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import sqlalchemy as sa
import yaml
from prometheus_client import generate_latest

from benchmarks.harness.postgresql import postgresql_programs, postgresql_server
from serving.service import main as command
from serving.service.api.app import create_app
from serving.service.api.gauges import OutcomeGauges
from serving.service.api.metrics import Metrics
from serving.service.options import SECRET_VARIABLE, STORE_VARIABLE, ServiceOptions, default_options, parse_options
from serving.service.outcomes import Figure, Report, Slice, Watcher
from serving.service.store import open_store
from serving.service.store.__main__ import main as store_command
from tests.serving.service.api.fakes import FakeRecommender
from tests.serving.service.api.live import Live
from tests.serving.test_deploy import (
    DEPLOY,
    REPOSITORY,
    check_panels,
    check_queries,
    check_requirements,
    dashboard,
    documents,
    instructions,
    is_sent,
    labels_of,
    only,
    queries,
)
from tests.source import imports
from trainer.task import _parser as trainer_parser

SERVICE = DEPLOY / "kubernetes" / "recommendation-service"
DOCKERFILE = DEPLOY / "service" / "Dockerfile"
PASSWORD_VARIABLE = "PGPASSWORD"  # libpq's
_BY = "app.kubernetes.io/name"


def manifests() -> dict[tuple[str, str], dict[str, Any]]:
    """Kubernetes' objects by kind and name; those of monitoring/ too."""
    found = [document for path in sorted(SERVICE.rglob("*.yaml")) for document in documents(path)]
    return {(each["kind"], each["metadata"]["name"]): each for each in found if each["kind"] != "Kustomization"}


def pods() -> dict[str, dict[str, Any]]:
    """The specifications of pods, with their labels, by the name of what makes them."""
    specs = {}
    for (kind, name), each in manifests().items():
        if kind in ("Deployment", "Job"):
            specs[name] = each["spec"]["template"]
        elif kind == "CronJob":
            specs[name] = each["spec"]["jobTemplate"]["spec"]["template"]
    return specs


def only_container(name: str) -> dict[str, Any]:
    containers: list[dict[str, Any]] = pods()[name]["spec"]["containers"]
    assert len(containers) == 1
    return containers[0]


def compose_services() -> dict[str, Any]:
    services: dict[str, Any] = documents(DEPLOY / "compose.service.yaml")[0]["services"]
    return services


def service_lines() -> dict[str, list[str]]:
    return {
        "service/Dockerfile": json.loads(only(DOCKERFILE, "CMD")),
        "compose.service.yaml": compose_services()["service"]["command"],
        "deployment.yaml": only_container("recommendation-service")["args"],
    }


def options_of(arguments: list[str]) -> ServiceOptions:
    return parse_options(argparse.ArgumentParser(), arguments)


@pytest.mark.parametrize("source", service_lines())
def test_the_service_accepts_every_command_line(source: str) -> None:
    arguments = service_lines()[source]
    options = options_of(arguments)
    for given in arguments:
        name, equals, value = given.removeprefix("--").partition("=")
        assert equals, f"{given}: written as --flag=value"
        found = getattr(options, name)
        assert found == type(found)(value)
    assert options.host == "0.0.0.0", "another address can't be reached from outside the container"
    assert options.port == int(only(DOCKERFILE, "EXPOSE"))


def test_the_service_asks_for_the_model_that_is_served() -> None:
    models = (DEPLOY / "config" / "models.config").read_text(encoding="utf-8")
    for source in ("compose.service.yaml", "deployment.yaml"):
        assert f'name: "{options_of(service_lines()[source]).model_name}"' in models
    server = documents(DEPLOY / "compose.yaml")[0]["services"]["server"]
    host, port = options_of(service_lines()["compose.service.yaml"]).model_server.split(":")
    assert host == "server"
    assert f"--port={port}" in server["command"]
    headless = [each for each in documents(DEPLOY / "kubernetes" / "service.yaml") if "clusterIP" in each["spec"]]
    asked = options_of(service_lines()["deployment.yaml"]).model_server
    assert asked == f"dns:///{headless[0]['metadata']['name']}:{headless[0]['spec']['ports'][0]['port']}"


def store_lines() -> dict[str, tuple[list[str], list[str]]]:
    """Command and arguments of what maintains the store."""
    composed = compose_services()
    return {
        **{f"Compose: {name}": (composed[name]["entrypoint"], composed[name]["command"]) for name in _MAINTENANCE},
        **{
            f"Kubernetes: {name}": (only_container(name)["command"], only_container(name)["args"])
            for name in ("recommendation-migration", "recommendation-segment")
        },
    }


_MAINTENANCE = ("migration", "segment")


@pytest.mark.parametrize("source", store_lines())
def test_the_stores_commands_run(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, arguments = store_lines()[source]
    assert program == ["python", "-m", "serving.service.store"]
    monkeypatch.setenv(STORE_VARIABLE, f"sqlite:///{tmp_path / 'store.db'}")
    assert store_command([each.replace("/segments", str(tmp_path)) for each in arguments]) == 0


def test_the_trainer_accepts_the_reindexing_jobs_command_line() -> None:
    assert json.loads(only(DEPLOY / "training" / "Dockerfile", "ENTRYPOINT")) == ["babelrec"]
    container = only_container("recommendation-reindex")
    found = trainer_parser().parse_args(container["args"])
    assert found.catalogue == f"store:$({STORE_VARIABLE})", "an address without a password: arguments are no secret"
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert f"/{found.model_dir.parts[1]}" in mounts
    folders = [rest for word, rest in instructions(DEPLOY / "training" / "Dockerfile") if word == "WORKDIR"]
    assert folders[-1] in mounts, "where --run-dir begins"
    served = (DEPLOY / "config" / "models.config").read_text(encoding="utf-8")
    assert f'base_path: "{found.model_dir}"' in served
    claims = {volume["persistentVolumeClaim"]["claimName"] for volume in _claims("recommendation-reindex")}
    models = documents(DEPLOY / "kubernetes" / "volume.yaml")[0]["metadata"]["name"]
    own = {name for kind, name in manifests() if kind == "PersistentVolumeClaim"}
    assert claims <= {*own, models}


def test_the_trainer_accepts_the_updating_jobs_command_line() -> None:
    container = only_container("recommendation-update")
    found = trainer_parser().parse_args(container["args"])
    assert found.once
    assert found.model_dir == trainer_parser().parse_args(only_container("recommendation-reindex")["args"]).model_dir
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    # Labels move in a file that outlives the job.
    assert f"/{found.model_config.parts[1]}" in mounts
    host, _, port = found.model_server.partition(":")
    service = documents(DEPLOY / "kubernetes" / "service.yaml")[0]
    assert host == service["metadata"]["name"]
    assert int(port) in [each["port"] for each in service["spec"]["ports"]]
    assert _claims("recommendation-update") == _claims("recommendation-reindex")


def _claims(name: str) -> list[dict[str, Any]]:
    return [volume for volume in pods()[name]["spec"]["volumes"] if "persistentVolumeClaim" in volume]


def test_variables_are_those_that_the_programs_read() -> None:
    for name in pods():
        sources = {each["name"]: each["valueFrom"] for each in only_container(name)["env"]}
        wanted = {STORE_VARIABLE, PASSWORD_VARIABLE}
        assert set(sources) == wanted | ({SECRET_VARIABLE} if name == "recommendation-service" else set())
        assert "configMapKeyRef" in sources.pop(STORE_VARIABLE)
        assert all("secretKeyRef" in source for source in sources.values())
    for name, service in compose_services().items():
        if name != "postgres":
            wanted = {STORE_VARIABLE, PASSWORD_VARIABLE}
            assert set(service["environment"]) == wanted | ({SECRET_VARIABLE} if name == "service" else set())


def test_configuration_and_secrets_that_pods_refer_to_exist() -> None:
    (generator,) = documents(SERVICE / "store" / "kustomization.yaml")[0]["configMapGenerator"]
    literals = dict(each.split("=", 1) for each in generator["literals"])
    made = re.search(r"kubectl create secret generic (\S+)((?: \\\n\s+--from-literal=[^\\\n]*[^\\\n ])+)", _readme())
    assert made is not None
    keys = set(re.findall(r"--from-literal=(\w+)=", made[2]))
    used = set()
    for name in pods():
        for each in only_container(name)["env"]:
            for kind, at in each["valueFrom"].items():
                assert at["name"] == {"configMapKeyRef": generator["name"], "secretKeyRef": made[1]}[kind]
                assert kind == "secretKeyRef" or at["key"] in literals
                if kind == "secretKeyRef":
                    used.add(at["key"])
    assert used == keys


def _readme() -> str:
    return (DEPLOY / "README.md").read_text(encoding="utf-8")


def test_no_file_has_a_secret() -> None:
    addresses = [
        literal for path in _texts() for literal in re.findall(r"postgresql://[^\s\"'`]+", path.read_text("utf-8"))
    ]
    assert addresses
    for address in addresses:
        assert sa.make_url(address).password is None, address
    for service in compose_services().values():
        for name, value in service["environment"].items():
            if name in (PASSWORD_VARIABLE, SECRET_VARIABLE, "POSTGRES_PASSWORD"):
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), f"{name}: from the environment, or an error"
    assert "Secret" not in {kind for kind, _ in manifests()}
    assert ".env" in (REPOSITORY / ".gitignore").read_text(encoding="utf-8").split()


def _texts() -> Iterator[Path]:
    yield from SERVICE.rglob("*.yaml")
    yield from (DEPLOY / "compose.service.yaml", DOCKERFILE, DEPLOY / "README.md")


@pytest.fixture
def passworded() -> Iterator[tuple[str, str]]:
    """A PostgreSQL server that wants a password: the address without it, and the password."""
    programs = postgresql_programs()
    if programs is None:
        pytest.skip("no PostgreSQL on this machine: neither initdb in the path nor /usr/lib/postgresql")
    password = "p@ss/w:rd#?"
    with postgresql_server(programs, {"fsync": "off", "password_encryption": "scram-sha-256"}) as url:
        engine = sa.create_engine(
            url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
        )
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE ROLE babelrec LOGIN PASSWORD '{password}'")
            connection.exec_driver_sql("CREATE DATABASE babelrec OWNER babelrec")
            access = connection.exec_driver_sql("SHOW hba_file").scalar_one()
            Path(access).write_text("local all postgres trust\nlocal all all scram-sha-256\n", encoding="utf-8")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        yield url.replace("postgres@/postgres", "babelrec@/babelrec"), password


def test_the_password_may_be_in_a_variable_of_its_own(passworded: tuple[str, str]) -> None:
    address, password = passworded
    program, arguments = store_lines()["Compose: migration"]
    for given, status in ((password, 0), ("wrong", 1)):
        done = subprocess.run(
            [sys.executable, *program[1:], *arguments],
            env={**os.environ, STORE_VARIABLE: address, PASSWORD_VARIABLE: given},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert given not in done.stdout + done.stderr


def test_compose_starts_in_order() -> None:
    services = compose_services()
    wanted = services["service"]["depends_on"]
    assert wanted["postgres"]["condition"] == "service_healthy"
    assert wanted["migration"]["condition"] == "service_completed_successfully"
    assert wanted["server"]["condition"] == "service_started"
    for name in _MAINTENANCE:
        assert services[name]["depends_on"]["postgres"]["condition"] == "service_healthy"
        assert services[name]["restart"] == "no"
    check = services["postgres"]["healthcheck"]["test"]
    assert "--host=127.0.0.1" in check
    address = sa.make_url(services["service"]["environment"][STORE_VARIABLE])
    settings = services["postgres"]["environment"]
    assert (address.host, address.port) == ("postgres", 5432)
    assert (address.username, address.database) == (settings["POSTGRES_USER"], settings["POSTGRES_DB"])
    assert {f"--username={address.username}", f"--dbname={address.database}"} <= set(check)


def test_compose_containers_have_few_rights_and_known_volumes() -> None:
    document = documents(DEPLOY / "compose.service.yaml")[0]
    mounted = set()
    for name, service in document["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        mounted |= {volume.partition(":")[0] for volume in service.get("volumes", [])}
    assert mounted == set(document["volumes"])
    assert all(port.startswith("127.0.0.1:") for port in document["services"]["service"]["ports"])
    assert "ports" not in document["services"]["postgres"]


def test_a_service_is_not_killed_before_it_has_drained() -> None:
    container = only_container("recommendation-service")
    options = options_of(container["args"])
    sleep = container["lifecycle"]["preStop"]["exec"]["command"]
    stopping = int(sleep[1]) + options.shutdown_delay_seconds + options.shutdown_grace_seconds
    assert pods()["recommendation-service"]["spec"]["terminationGracePeriodSeconds"] > stopping
    probe = container["readinessProbe"]
    assert options.shutdown_delay_seconds >= probe["periodSeconds"] * probe["failureThreshold"]
    deployment = manifests()["Deployment", "recommendation-service"]["spec"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert deployment["replicas"] == 2
    composed = compose_services()["service"]
    options = options_of(composed["command"])
    patience = int(composed["stop_grace_period"].removesuffix("s"))
    assert patience > options.shutdown_delay_seconds + options.shutdown_grace_seconds


@pytest.fixture
def routes(tmp_path: Path) -> set[str]:
    """What the service answers to."""
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        app = create_app(store, FakeRecommender(), default_options(store=f"sqlite:///{tmp_path / 'store.db'}"))
        return set(app.openapi()["paths"])


def test_probes_and_scrapes_ask_for_existing_routes(routes: set[str]) -> None:
    container = only_container("recommendation-service")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": options_of(container["args"]).port}
    for name, path in (("startupProbe", "/healthz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
        assert container[name]["httpGet"] == {"path": path, "port": "http"}
        assert path in routes
    # For so long the service itself waits for the store.
    assert container["readinessProbe"]["timeoutSeconds"] > 2
    job = documents(DEPLOY / "prometheus" / "prometheus.yml")[0]["scrape_configs"][1]
    assert job["metrics_path"] in routes
    (found,) = job["dns_sd_configs"]
    assert found["names"] == ["service"]
    assert found["names"][0] in compose_services()
    assert found["port"] == options_of(compose_services()["service"]["command"]).port
    monitor = manifests()["ServiceMonitor", "recommendation-service"]["spec"]
    assert monitor["endpoints"][0]["path"] in routes
    service = manifests()["Service", "recommendation-service"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    # Prometheus' operator calls the job like the Service; the alert names the job.
    assert service["metadata"]["name"] == job["job_name"]


def test_the_images_health_check_asks_the_service(tmp_path: Path) -> None:
    program = json.loads(only(DOCKERFILE, "HEALTHCHECK").partition("CMD ")[2])
    assert program[0] == "python"

    def status(port: int) -> int:
        line = [sys.executable, *program[1:-1], program[-1].replace(":8600/", f":{port}/")]
        return subprocess.run(line, capture_output=True, check=False).returncode

    with Live(f"sqlite:///{tmp_path / 'store.db'}") as live:
        assert status(live.port) == 0
    assert status(live.port) == 1


def test_labels_select_the_pods_that_are_meant() -> None:
    labels = {name: pod["metadata"]["labels"][_BY] for name, pod in pods().items()}
    service = labels.pop("recommendation-service")
    assert set(labels.values()) == {"recommendation-jobs"}
    found = manifests()
    assert found["Deployment", "recommendation-service"]["spec"]["selector"] == {"matchLabels": {_BY: service}}
    assert found["Service", "recommendation-service"]["spec"]["selector"] == {_BY: service}
    assert found["PodDisruptionBudget", "recommendation-service"]["spec"]["selector"]["matchLabels"] == {_BY: service}
    for spread in pods()["recommendation-service"]["spec"]["topologySpreadConstraints"]:
        assert spread["labelSelector"]["matchLabels"] == {_BY: service}


def test_network_policies_name_existing_pods_and_ports() -> None:
    model_server = documents(DEPLOY / "kubernetes" / "deployment.yaml")[0]["spec"]["template"]
    names = {pod["metadata"]["labels"][_BY] for pod in pods().values()} | {model_server["metadata"]["labels"][_BY]}
    theirs = {port["name"] for port in model_server["spec"]["containers"][0]["ports"]}
    own = {port["name"] for port in only_container("recommendation-service")["ports"]}
    policies = {name: each["spec"] for (kind, name), each in manifests().items() if kind == "NetworkPolicy"}
    assert {policy["podSelector"]["matchLabels"][_BY] for policy in policies.values()} == names
    for name, policy in policies.items():
        for rule in policy["ingress"]:
            for peer in rule.get("from", []):
                assert set(peer.get("podSelector", {}).get("matchLabels", {}).values()) <= names
            assert {port["port"] for port in rule["ports"]} <= (theirs if name == "model-server" else own)
        for rule in policy.get("egress", []):
            asked = {port["port"] for port in rule["ports"]}
            assert asked <= (theirs if "to" in rule else {53, 5432})
    (generator,) = documents(SERVICE / "store" / "kustomization.yaml")[0]["configMapGenerator"]
    assert sa.make_url(generator["literals"][0].partition("=")[2]).port == 5432


@pytest.mark.parametrize("name", pods())
def test_pods_have_few_rights(name: str) -> None:
    spec, container = pods()[name]["spec"], only_container(name)
    assert spec["securityContext"]["runAsNonRoot"]
    image = {"babelrec-service": "service", "babelrec-trainer": "training"}[container["image"]]
    assert spec["securityContext"]["runAsUser"] == int(only(DEPLOY / image / "Dockerfile", "USER"))
    assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"requests", "limits"} == set(container["resources"])
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
    # Who writes to a volume must be in its group.
    assert not _claims(name) or spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsGroup"]


def test_the_kustomizations_include_every_manifest() -> None:
    (service,) = documents(SERVICE / "kustomization.yaml")
    commented = re.findall(r"^  # - (\S+\.yaml)$", (SERVICE / "kustomization.yaml").read_text("utf-8"), re.MULTILINE)
    named = {*service["resources"], *commented}
    there = {str(path.relative_to(SERVICE)) for path in SERVICE.rglob("*.yaml") if path.name != "kustomization.yaml"}
    assert named == (there - {"migration/job.yaml"}) | {"store"}
    (migration,) = documents(SERVICE / "migration" / "kustomization.yaml")
    assert set(migration["resources"]) == {"job.yaml", "../store"}
    images = {image["name"]: image for image in service["images"]}
    assert set(images) == {only_container(name)["image"] for name in pods()}
    assert migration["images"] == [images["babelrec-service"]], "the schema of the version that starts"


def test_the_image_has_the_code_that_the_service_runs_and_its_packages() -> None:
    waiting = ["serving.service.__main__", "serving.service.store.__main__", "serving.service.recommender"]
    waiting += [
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        for path in (REPOSITORY / "serving" / "service").rglob("*.py")
    ]
    seen: set[Path] = set()
    while waiting:
        path = _file_of(waiting.pop())
        if path is None or path in seen:
            continue
        seen.add(path)
        for module, names in imports(path):
            if module.partition(".")[0] == "serving":
                waiting += [module, *(f"{module}.{name}" for name in names)]
    assert len(seen) > 50
    for path in seen:
        assert is_sent(DOCKERFILE, str(path.relative_to(REPOSITORY))), path
    assert not is_sent(DOCKERFILE, "serving/server/main.py")
    # --tracing is an extra of its own; Starlette is part of FastAPI's interface.
    check_requirements("service", sorted(seen), {"opentelemetry", "starlette"})


def _file_of(module: str) -> Path | None:
    """Of a module or package of this repository; None for other names."""
    path = REPOSITORY / Path(*module.split("."))
    found = [each for each in (path.with_suffix(".py"), path / "__init__.py") if each.exists()]
    return found[0] if found else None


def test_the_readmes_commands_about_keys_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = re.findall(r"(?:service |serving\.service )(keys \w+[^\n]*)", _readme())
    assert len(lines) == 2
    for number, line in enumerate(lines):
        url = f"sqlite:///{tmp_path / str(number)}.db"
        # The options' default is that of the program's start.
        assert command.main([*line.split(), "--store", url]) == 0


def some_report() -> Report:
    """With one figure that has an interval."""
    figure = Figure(value=0.1, low=0.05, high=0.2)
    part = Slice(labels={"version": "1", "language": "ko"}, rest=False, answers=9, people=9, metrics={"ctr": figure})
    rest: Any = {"since": 0, "until": 1, "now": 2, "complete": False, "open": {}, "events": 1, "all": part}
    return Report(uncounted={"late": 1}, slices=[part], **rest)


@pytest.fixture(scope="module")
def exposed() -> dict[str, set[str]]:
    """Labels by metric of the service, and what Prometheus itself adds."""
    metrics = Metrics()
    metrics.requests.labels("x", "x", "x").inc()
    metrics.seconds.labels("x").observe(1)
    watcher = mock.Mock(spec=Watcher, report=some_report())
    metrics.registry.register(OutcomeGauges(watcher))
    return labels_of(generate_latest(metrics.registry)) | {"up": set()}


def alerts() -> list[dict[str, Any]]:
    return [rule for group in documents(DEPLOY / "prometheus" / "alerts.yml")[0]["groups"] for rule in group["rules"]]


def test_alerts_and_panels_query_existing_metrics(exposed: dict[str, set[str]]) -> None:
    asked = check_queries([rule["expr"] for rule in alerts()], exposed)
    boards = ("recommendation-service", "recommendation-outcomes")
    asked |= {name for board in boards for name in check_queries(queries(board), exposed)}
    own = {
        name for name in exposed if name.startswith("babelrec_") and not name.endswith(("_created", "_sum", "_count"))
    }
    assert own <= asked, "every metric is shown or watched"
    for board in boards:
        check_panels(dashboard(board), exposed)
    assert len({dashboard(name)["uid"] for name in ("model-server", *boards)}) == 3


def test_the_alerts_name_existing_routes(routes: set[str]) -> None:
    text = " ".join([rule["expr"] for rule in alerts()] + queries("recommendation-service"))
    for found in re.findall(r'route=~?"/v1/\(?([^)"]+)', text):
        assert {f"/v1/{name}" for name in found.split("|")} <= routes


def test_the_operators_alerts_are_the_same() -> None:
    rule = manifests()["PrometheusRule", "recommendation-service"]["spec"]
    assert rule == documents(DEPLOY / "prometheus" / "alerts.yml")[0]
    compose = documents(DEPLOY / "compose.yaml")[0]
    assert "./prometheus:/etc/prometheus:ro" in compose["services"]["prometheus"]["volumes"]
    assert documents(DEPLOY / "prometheus" / "prometheus.yml")[0]["rule_files"] == ["alerts.yml"]


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed. Remedy: apt-get install prometheus")
    return found


def run(*line: str | Path) -> None:
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_configuration(promtool: str) -> None:
    run(promtool, "check", "config", DEPLOY / "prometheus" / "prometheus.yml")


_REQUESTS = 'babelrec_service_requests_total{job="recommendation-service",route="/v1/recommendations",status="%s"}'
_TIMES = 'babelrec_service_request_seconds_bucket{job="recommendation-service",route="/v1/recommendations",le="%s"}'
_DEGRADED = 'babelrec_service_degraded_answers_total{job="recommendation-service"}'
_WAITING = 'babelrec_service_queued_events{job="recommendation-service"}'
_UP = 'up{job="recommendation-service"}'
_WELL = {
    _REQUESTS % "200": "0+1000x30",
    _REQUESTS % "500": "0+1x30",
    _DEGRADED: "0+10x30",
    _TIMES % "0.2": "0+1000x30",
    _TIMES % "1.0": "0+1000x30",
    _TIMES % "+Inf": "0+1000x30",
    _WAITING: "100x30",
    _UP: "1x30",
}


@pytest.mark.parametrize(
    ("alert", "series"),
    [
        ("RecommendationServiceDown", {_UP: "0x30"}),
        ("RecommendationServiceFails", {_REQUESTS % "500": "0+50x30"}),
        ("RecommendationsSlow", {_TIMES % "0.2": "0+900x30"}),
        ("RecommendationsDegraded", {_DEGRADED: "0+100x30"}),
        ("EventsWait", {_WAITING: "30000x30"}),
        ("", {}),
    ],
)
def test_alerts_fire_when_they_should(promtool: str, alert: str, series: dict[str, str], tmp_path: Path) -> None:
    given = [{"series": name, "values": values} for name, values in (_WELL | series).items()]
    # Not `alert_rule_test`, which compares annotations too: they would have to be written here again.
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    found = [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if alert else []
    test = {
        "rule_files": [str(DEPLOY / "prometheus" / "alerts.yml")],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": given,
                "promql_expr_test": [{"expr": firing, "eval_time": "29m", "exp_samples": found}],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test), encoding="utf-8")
    run(promtool, "test", "rules", tmp_path / "test.yml")
