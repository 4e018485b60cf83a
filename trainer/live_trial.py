"""Simulated visitors of `make live`, and the loop that updates the model by what they do."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serving.labels import create_config, write_versions
from serving.service.options import STORE_VARIABLE
from trainer.errors import BabelrecError
from trainer.programs import Program
from trainer.runs import Run
from trainer.steps import newest

_POLL_SECONDS: Final = 2
# A shop's day in a quarter of an hour: few people, small differences, so a version that is not proved worse is taken.
SERVICE_FLAGS: Final = (
    "--canary",
    "--canary_shares=0.2,0.5",
    "--canary_people=50",
    "--canary_answers=3000",
    "--canary_margin=1",
    "--outcome_seconds=30",
)
_EVERY_SECONDS: Final = 600
_UPDATE: Final = ("update.gate.least=50", "update.gate.positives=500")
# Each visitor has a share of the people who come, and of the requests.
_PEOPLE_A_VISITOR: Final = 20
_REQUESTS_A_SECOND: Final = 0.2
_DAYS: Final = 28


@dataclass(frozen=True, slots=True)
class Trial:
    """What runs next to model server and service.

    Attributes:
        model_dir: Base path of the model.
        folder: For logs and the model server's configuration.
    """

    model_dir: Path
    folder: Path

    @property
    def config(self) -> Path:
        """The model server's configuration file."""
        return self.folder / "models.config"

    def server_flags(self) -> list[str]:
        """Of a model server whose versions and labels the loop moves; it begins with the newest version."""
        version = newest(self.model_dir)
        if version is None:
            raise BabelrecError(f"{self.model_dir} has no version. Export one: trainer.task export.")
        name = self.model_dir.resolve().name
        self.config.unlink(missing_ok=True)
        create_config(self.config, name, str(self.model_dir.resolve()))
        write_versions(self.config, name, {int(version.name)}, {"stable": int(version.name)})
        return [
            f"--model_config_file={self.config.resolve()}",
            f"--model_config_file_poll_wait_seconds={_POLL_SECONDS}",
            # At its start nothing is loaded yet.
            "--allow_version_labels_for_unavailable_models",
        ]

    def programs(
        self, run: Run, store: str, model_port: str, address: str, key: str, visitors: int, ended: threading.Event
    ) -> Iterator[Program]:
        """The visitors and the loop.

        Args:
            run: The first champion.
            store: Address of the store.
            model_port: Of the model server.
            address: Of the service.
            key: Of an administrator.
            visitors: How many.
            ended: Set when the loop ends; that visitors have seen all days is no fault.
        """
        loop = [
            *("trainer.task", "loop", f"--run-dir={run.path}", f"--model-dir={self.model_dir}"),
            *(f"--model-config={self.config}", f"--model-server=127.0.0.1:{model_port}"),
            *(f"--every={_EVERY_SECONDS}", f"--poll={_POLL_SECONDS}"),
            *(part for each in _UPDATE for part in ("--set", each)),
        ]
        yield Program(
            "updates", self.folder / "updates.log", loop, r"(\d{4}-\d\d-\d\d .*)", {STORE_VARIABLE: store}, ended
        )
        people = _PEOPLE_A_VISITOR * visitors
        simulation = [
            *("benchmarks.simulation", f"--service={address}", "--now", "--warm-up=0", f"--days={_DAYS}"),
            *(f"--rate={_REQUESTS_A_SECOND * visitors}", f"--clients={visitors}"),
            *(f"--output={self.folder / 'visitors.json'}", "--set", "items.source=movielens-100k", "items.count=1682"),
            *("items.fresh_share=0.0", f"people.count={people}", "people.visits_a_day=1.0"),
            "languages={en: {share: 1.0, countries: {US: 1.0}}}",
        ]
        yield Program("visitors", self.folder / "visitors.log", simulation, r"(Written to .*)", {"BABELREC_KEY": key})
