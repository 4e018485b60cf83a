"""TF_CONFIG: the environment variable in which a platform tells each process of a training job about the others."""

import json
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field, ValidationError

from trainer.errors import BabelrecError

_EXAMPLE: Final = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
_Address = Annotated[str, Field(pattern=r"^[^\s:]+:[0-9]+$|^\[[0-9a-fA-F:.]+\]:[0-9]+$")]


class _Cluster(BaseModel, extra="allow"):
    chief: list[_Address] = Field([], max_length=1)
    worker: list[_Address] = []


class _Task(BaseModel):
    type: Literal["chief", "worker"]
    index: int = Field(ge=0)


class _Contents(BaseModel):
    # Platforms add entries of their own.
    cluster: _Cluster
    task: _Task


@dataclass(frozen=True, slots=True)
class Place:
    """A process's place in its job.

    Attributes:
        workers: Processes in the job.
        number: This one's, from 0, which is the chief.
    """

    workers: int = 1
    number: int = 0


def read_place(text: str | None) -> Place:
    """The place that TF_CONFIG gives a process; alone if there is none.

    Raises:
        BabelrecError: it can't be read, or describes another kind of job.
    """
    if not text or not text.strip():
        return Place()
    try:
        given = json.loads(text)
        if isinstance(given, dict) and not given.get("cluster"):
            # What some platforms set for a job of one process.
            return Place()
        found = _Contents.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "TF_CONFIG"
        raise _refused(f"{where}: {first['msg']}") from error
    except ValueError as error:
        raise _refused(f"it is not JSON: {error}") from error
    others = {name: hosts for name, hosts in (found.cluster.model_extra or {}).items() if hosts and name != "evaluator"}
    if others:
        raise _refused(f"cluster.{min(others)}: only chief and worker take part in this kind of training")
    hosts = found.cluster.chief + found.cluster.worker
    if len(set(hosts)) < len(hosts):
        raise _refused("cluster: an address is given twice")
    own = found.cluster.chief if found.task.type == "chief" else found.cluster.worker
    if found.task.index >= len(own):
        raise _refused(f"task: there is no {found.task.type} {found.task.index}; the cluster has {len(own)}")
    after = len(found.cluster.chief) if found.task.type == "worker" else 0
    return Place(len(hosts), after + found.task.index)


def _refused(reason: str) -> BabelrecError:
    return BabelrecError(
        f"The environment variable TF_CONFIG can't be used: {reason}. Remedy: unset it to train on this machine alone, "
        f"or set it on every machine as in {_EXAMPLE}"
    )
