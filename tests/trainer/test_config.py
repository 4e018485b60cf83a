"""Settings: strict, explained, overridable."""

from pathlib import Path

import pytest

from trainer.config import Config, dump_config, load_config, parse_config
from trainer.errors import BabelrecError
from trainer.settings_reference import settings_markdown
from trainer.training.fit import fit

# ablations.yaml is a list of variants of the others; its own test loads each of them.
_CONFIGS = sorted(
    path for path in (Path(__file__).resolve().parents[2] / "configs").glob("*.yaml") if path.stem != "ablations"
)


@pytest.mark.parametrize("path", _CONFIGS, ids=lambda path: path.name)
def test_every_config_in_the_repository_loads(path: Path) -> None:
    assert load_config(path).name == path.stem
    assert path.read_text(encoding="utf-8").startswith("#"), "a config's header says command, time and metrics"


def test_a_resolved_config_reads_back_equal(tmp_path: Path) -> None:
    config = parse_config({"name": "x", "data": {"source": "kmrd"}, "model": {"dimension": 8}}, "here")
    (tmp_path / "c.yaml").write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path / "c.yaml") == config


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"traning": {}}, "'traning'. Did you mean 'training'"),
        ({"model": {"retrieval": {"temprature": 1.0}}}, "'model.retrieval.temprature'. Did you mean 'temperature'"),
        ({"data": {"source": {"name": "kmrd", "title_langage": "ko"}}}, "Did you mean 'title_language'"),
        ({"model": {"zzz": 1}}, "Valid here: dimension"),
        ({"training": {"epochs": "3"}}, "training.epochs is '3'"),
        ({"training": {"epochs": True}}, "training.epochs is True"),
        ({"training": {"epochs": 0}}, "greater than or equal to 1"),
        ({"data": {"source": "netflix"}}, "must be one of dataset, kmrd, mind, movielens-100k, tabular"),
        ({"data": {"split": {"train_users": 0.0}}}, "data.split.train_users is 0.0"),
        ({"evaluation": {"ks": []}}, "evaluation.ks is []"),
    ],
)
def test_a_fault_is_named_with_its_remedy(raw: dict[str, object], says: str) -> None:
    with pytest.raises(BabelrecError) as error:
        parse_config(raw, "my.yaml")
    assert says in str(error.value)
    assert "my.yaml" in str(error.value)


def test_overrides_reach_any_depth(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("data: {source: kmrd}\n", encoding="utf-8")
    config = load_config(
        path,
        [
            "training.learning_rate=1e-3",
            "data.source.title_language=en",
            "model.ranking.hidden=[8, 4]",
            "name=ü".replace("ü", "u"),
        ],
    )
    assert config.training.learning_rate == 0.001
    assert config.data.source.model_dump()["title_language"] == "en"
    assert config.model.ranking.hidden == [8, 4]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (
            {"model": {"wishes": {"enabled": True}}, "text": {"tuning": {"mode": "lora"}}},
            "needs the vectors of a frozen encoder",
        ),
        (
            {"model": {"wishes": {"enabled": True}, "conversion": {"bottleneck": 8}}},
            "without model.conversion",
        ),
        ({"training": {"popularity_factors": [2.0]}}, "model.candidate.popularity, which is off"),
        ({"model": {"linear": {"rank": 8, "new_items": 2.0}}}, "model.candidate.neighbours.enabled, or leave it out"),
        ({"training": {"alignment": {"co_consumed": 3}}}, "nothing is aligned"),
    ],
)
def test_settings_that_cannot_hold_together_are_refused_before_a_run_begins(
    tmp_path: Path, raw: dict[str, object], says: str
) -> None:
    # Readable all the same: a run may have been trained with them, or take its model from another one.
    config = parse_config(raw, "here")
    with pytest.raises(BabelrecError, match=says):
        fit(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("override", ["training.epochs", "=3", "name.x=3", "training.epochs=[", "training.epoch=3"])
def test_a_bad_override_is_refused(tmp_path: Path, override: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("name: a\n", encoding="utf-8")
    with pytest.raises(BabelrecError):
        load_config(path, [override])


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "just words"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(BabelrecError, match=r"c\.yaml"):
        load_config(tmp_path / "c.yaml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BabelrecError, match=r"nothing\.yaml"):
        load_config(tmp_path / "nothing.yaml")


def test_defaults_are_valid() -> None:
    assert Config() == parse_config({}, "defaults")


def test_the_documented_settings_are_those_of_the_code() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page.endswith(settings_markdown()), "write it again: see the page's first line"


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(BabelrecError, match="UTF-8"):
        load_config(tmp_path / "c.yaml")
