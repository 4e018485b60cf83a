"""A small Spark cluster of this machine: one driver and two workers, each with a core and an executor of its own."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
DRIVER = Path(os.environ.get("BABELREC_POSTGRESQL_JAR", "/usr/share/java/postgresql.jar"))


@contextmanager
def small_cluster(scratch: Path) -> Iterator["SparkSession"]:
    """A session; skips the test where PySpark or Java is missing."""
    pytest.importorskip("pyspark", reason="PySpark is not installed: pip install 'babelrec[spark]'")
    from trainer.data.spark.session import java, open_session

    if java() is None:
        pytest.skip("no Java on this machine: neither in the path nor in JAVA_HOME")
    settings = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        # Small data: starting tasks is all the work.
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.adaptive.enabled": "false",
        "spark.executor.extraJavaOptions": _QUICK,
    }
    if DRIVER.exists():
        settings["spark.jars"] = str(DRIVER)
    # Spark's launcher reads them before there are settings.
    os.environ["PYSPARK_SUBMIT_ARGS"] = f'--driver-java-options "{_QUICK}" pyspark-shell'
    session = open_session("local-cluster[2,1,1024]", settings)
    session.sparkContext.setLogLevel("ERROR")
    try:
        yield session
    finally:
        session.stop()
        del os.environ["PYSPARK_SUBMIT_ARGS"]
