"""The Spark session of a preparation, and work that is spread over its workers."""

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from trainer.errors import BabelrecError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_T = TypeVar("_T")
_R = TypeVar("_R")
_SETTINGS: Final = {
    # What Arrow and Polars read as times.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.session.timeZone": "UTC",
}
_PARTITIONS: Final = "spark.sql.shuffle.partitions"
# Masters whose workers are processes of this machine.
_HERE: Final = ("local[", "local-cluster[")


def open_session(master: str | None = None, settings: Mapping[str, str] | None = None) -> "SparkSession":
    """The session of this process, or a new one.

    Args:
        master: Such as ``local[4]``, ``yarn``, ``k8s://...``; None: as spark-submit or its configuration says.
        settings: Spark's own, by name.

    Raises:
        BabelrecError: PySpark or Java is missing.
    """
    try:
        from pyspark.sql import SparkSession
    except ModuleNotFoundError as error:
        raise BabelrecError(f"Spark needs {error.name}: pip install 'babelrec[spark]'") from error
    if "PYSPARK_GATEWAY_PORT" not in os.environ and not java():
        raise BabelrecError(
            "Spark needs Java 17 or later: install it (Debian: openjdk-17-jre-headless), or set JAVA_HOME."
        )
    builder = SparkSession.builder.appName("babelrec data")
    given = dict(_SETTINGS)
    if master is not None:
        builder = builder.master(master)
        if master == "local" or master.startswith(_HERE):
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
            given["spark.executorEnv.PYTHONPATH"] = str(Path(__file__).parents[3])
            if "BABELREC_CACHE" in os.environ:
                given["spark.executorEnv.BABELREC_CACHE"] = os.environ["BABELREC_CACHE"]
    for name, value in (given | dict(settings or {})).items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def java() -> str | None:
    """The program, if there is one."""
    home = os.environ.get("JAVA_HOME")
    return shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")


def fit_partitions(session: "SparkSession", files: int) -> None:
    """Lets Spark sort and join in as many parts as a table has files, unless its configuration says how many.

    A part is then what a task can hold, as a file is; Spark's own number, 200, is too small for thousands of files, and
    starting so many tasks is all the work for ten.
    """
    if not session.sparkContext.getConf().contains(_PARTITIONS):
        session.conf.set(_PARTITIONS, max(files, session.sparkContext.defaultParallelism))


def spread(session: "SparkSession", work: Callable[[_T], _R], jobs: Sequence[_T]) -> list[_R]:
    """Does each job in a task of its own; returns the results in the order of the jobs."""
    if not jobs:
        return []
    found: list[Any] = session.sparkContext.parallelize(jobs, len(jobs)).map(work).collect()
    return found
