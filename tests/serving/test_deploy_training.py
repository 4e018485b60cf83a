"""serving/deploy/training: schemas, and whether the manifests agree with what reads them.

No cluster is asked here. Checks whose tool is not installed are skipped.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainer import task
from trainer.training.tf_config import Place, read_place

_FOLDER = Path(__file__).resolve().parents[2] / "serving" / "deploy" / "training"
_JOBSET, _KUBEFLOW, _VERTEX = (_FOLDER / name for name in ("jobset.yaml", "kubeflow.yaml", "vertex-ai.yaml"))


def _documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def _job_sets() -> list[tuple[str, dict[str, Any], int]]:
    """Name, spec and number of workers of the two JobSets."""
    (job_set,) = _documents(_JOBSET)
    runtime, job = _documents(_KUBEFLOW)
    workers = job_set["spec"]["replicatedJobs"][0]["template"]["spec"]["completions"]
    return [
        (job_set["metadata"]["name"], job_set["spec"], workers),
        (job["metadata"]["name"], runtime["spec"]["template"]["spec"], runtime["spec"]["mlPolicy"]["numNodes"]),
    ]


def _round_trip(model: Any, document: dict[str, Any]) -> None:
    """Reads a document by the API's own classes; what they don't know they would drop."""
    assert json.loads(model.from_dict(document).to_json()) == document


def test_the_job_set_matches_its_api() -> None:
    models = pytest.importorskip("kubeflow_trainer_api.models")
    (document,) = _documents(_JOBSET)
    _round_trip(models.JobsetV1alpha2JobSet, document)


def test_the_kubeflow_manifests_match_their_api() -> None:
    models = pytest.importorskip("kubeflow_trainer_api.models")
    runtime, job = _documents(_KUBEFLOW)
    _round_trip(models.TrainerV1alpha1TrainingRuntime, runtime)
    _round_trip(models.TrainerV1alpha1TrainJob, job)
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    assert job["spec"]["trainer"]["numNodes"] == runtime["spec"]["mlPolicy"]["numNodes"]


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_the_pods_match_the_kubernetes_api(version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    for _, spec, workers in _job_sets():
        job = spec["replicatedJobs"][0]["template"]["spec"]
        # What an image is, and how many of them there are, a TrainJob says.
        job = job | {"completions": workers, "parallelism": workers}
        validate.validate(
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "fit"}, "spec": job}, version, strict=True
        )


@pytest.mark.parametrize("which", [0, 1])
def test_every_worker_is_told_its_place_by_the_names_that_pods_get(which: int) -> None:
    name, spec, workers = _job_sets()[which]
    replicated = spec["replicatedJobs"][0]
    container = replicated["template"]["spec"]["template"]["spec"]["containers"][0]
    (given,) = [entry["value"] for entry in container["env"] if entry["name"] == "TF_CONFIG"]
    (port,) = [entry["containerPort"] for entry in container["ports"]]
    hosts = [f"{name}-{replicated['name']}-0-{n}.{spec['network']['subdomain']}:{port}" for n in range(workers)]
    for number in range(workers):
        # As the kubelet does.
        text = given.replace("$(INDEX)", str(number))
        assert read_place(text) == Place(workers, number)
        assert json.loads(text)["cluster"] == {"worker": hosts}


def test_vertex_ai_s_job_matches_its_api() -> None:
    types = pytest.importorskip("google.cloud.aiplatform_v1.types")
    json_format = pytest.importorskip("google.protobuf.json_format")
    (document,) = _documents(_VERTEX)
    read = types.CustomJobSpec.pb(types.CustomJobSpec())
    # An unknown field is an error.
    json_format.ParseDict(document, read)
    assert [pool.replica_count for pool in read.worker_pool_specs] == [1, 3]


def test_the_trainer_accepts_the_command_lines() -> None:
    (job_set,) = _documents(_JOBSET)
    _, job = _documents(_KUBEFLOW)
    (vertex,) = _documents(_VERTEX)
    containers = job_set["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
    lines = [containers[0]["args"], job["spec"]["trainer"]["args"]]
    lines += [pool["containerSpec"]["args"] for pool in vertex["workerPoolSpecs"]]
    for line in lines:
        options = task._parser().parse_args(line)
        assert options.run_dir.name == "production"
