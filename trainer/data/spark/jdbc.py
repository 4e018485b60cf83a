"""Results of queries of a database as Parquet files, which are then a table's files."""

import os
from typing import TYPE_CHECKING, Final

from trainer.data.spark.places import for_spark
from trainer.errors import BabelrecError, first_line

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

USER: Final = "BABELREC_JDBC_USER"
PASSWORD: Final = "BABELREC_JDBC_PASSWORD"
_NAME: Final = "babelrec_query"
# A driver in `spark.jars` registers itself only when its class is named.
_DRIVERS: Final = {
    "mariadb": "org.mariadb.jdbc.Driver",
    "mysql": "com.mysql.cj.jdbc.Driver",
    "oracle": "oracle.jdbc.OracleDriver",
    "postgresql": "org.postgresql.Driver",
    "sqlite": "org.sqlite.JDBC",
    "sqlserver": "com.microsoft.sqlserver.jdbc.SQLServerDriver",
}


def read_query(
    session: "SparkSession", url: str, query: str, target: str, *, time: str | None = None, split_by: str | None = None
) -> None:
    """Writes the rows of a query, in an order that does not depend on the database.

    That is the order of the time, if there is one, and then of all columns: of repeated positives of a user and an
    item, the first row counts. `USER` and `PASSWORD` of the environment are sent to the database.

    Args:
        session: Of Spark; its ``spark.jars`` has the database's driver.
        url: ``jdbc:...``.
        query: In SQL.
        target: The directory to create.
        time: Column by which rows are sorted first.
        split_by: A column of numbers or times; the ranges of its values are read at once. None: one worker reads all.

    Raises:
        BabelrecError: The driver is missing, or the database refuses the query.
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    given = {"USER": os.environ.get(USER), "PASSWORD": os.environ.get(PASSWORD)}
    reader = session.read.format("jdbc").option("url", url).option("fetchsize", 10_000)
    kind = url.removeprefix("jdbc:").partition(":")[0]
    if kind in _DRIVERS:
        reader = reader.option("driver", _DRIVERS[kind])
    for name, value in given.items():
        if value is not None:
            reader = reader.option(name.lower(), value)
    table = f"({query}) AS {_NAME}"
    try:
        if split_by is not None:
            low, high = (
                reader.option(
                    "dbtable",
                    f"(SELECT min({split_by}) AS low, max({split_by}) AS high FROM {table}) AS babelrec_bounds",
                )
                .load()
                .collect()[0]
            )
            if low is not None:
                reader = (
                    reader.option("partitionColumn", split_by)
                    .option("lowerBound", str(low))
                    .option("upperBound", str(high))
                    .option("numPartitions", session.sparkContext.defaultParallelism)
                )
        rows = reader.option("dbtable", table).load()
        columns = [*([time] if time in rows.columns else []), *(name for name in rows.columns if name != time)]
        rows.sort(*columns).write.parquet(for_spark(target))
    except (Py4JJavaError, PySparkException) as error:
        said = str(error.java_exception) if isinstance(error, Py4JJavaError) else first_line(error)
        remedy = "check the query, the URL and who may read it"
        if "No suitable driver" in said or "ClassNotFoundException" in said:
            remedy = "give the database's driver: --conf spark.jars=DRIVER.jar"
        raise BabelrecError(f"The database can't be read: {said.splitlines()[0]}. Remedy: {remedy}.") from error
