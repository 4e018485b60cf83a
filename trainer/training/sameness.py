"""What training on several devices asks of a config, and of the machines it runs on."""

import json

import tensorflow as tf

from trainer._version import __version__
from trainer.config.settings import Config
from trainer.data.category_names import names_digest
from trainer.data.dataset import Dataset
from trainer.errors import BabelrecError
from trainer.runs import learned_by
from trainer.training.cluster import Cluster


def check_shareable(config: Config, cluster: Cluster) -> None:
    """Refuses what is trained on one device only.

    Raises:
        BabelrecError: one of those settings is on, and there are several devices.
    """
    if cluster.replicas == 1:
        return
    alone = {
        "training.start_from": config.training.start_from is not None,
        "training.adversarial.method": config.training.adversarial.method is not None,
    }
    for name, used in alone.items():
        if used:
            raise BabelrecError(
                f"{name} is set, which works on one device only, and this training has {cluster.replicas}. Remedy: "
                "unset TF_CONFIG and training.all_gpus, or leave that setting out."
            )


def check_same(cluster: Cluster, config: Config, dataset: Dataset) -> None:
    """Checks that all workers train the same model on the same data; where the data is stored may differ.

    Raises:
        BabelrecError: they don't, reported alike by all of them.
    """
    settings = learned_by(config)
    for place in ("source", "category_names"):
        settings["data"].pop(place, None)
    cluster.check_same(
        {
            "settings": json.dumps(settings, sort_keys=True),
            "data": f"{dataset.fingerprint} {names_digest(config.data.category_names)}",
            "versions": f"babelrec {__version__}, tensorflow {tf.__version__}",
        }
    )
