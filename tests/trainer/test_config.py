"""Settings: strict, explained, overridable."""

from pathlib import Path

import pytest

from trainer.config.loading import load_config, parse_config
from trainer.config.settings import Config, dump_config
from trainer.errors import BabelrecError
from trainer.settings_reference import settings_markdown
from trainer.training.fit import fit

# ablations.yaml is a list of variants of the others; its own test loads each of them.
_FOLDER = Path(__file__).resolve().parents[2] / "configs"
_CONFIGS = sorted(
    path for path in (*_FOLDER.glob("*.yaml"), *_FOLDER.glob("scenes/*.yaml")) if path.stem != "ablations"
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
        ({"data": {"source": "netflix"}}, "must be one of baskets, dataset, kmrd, markets"),
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
        ({"training": {"popularity_factors": [2.0]}}, "model.candidate.popularity, which is off"),
        ({"model": {"linear": {"rank": 8, "new_items": 2.0}}}, "model.candidate.neighbours.enabled, or remove it"),
        ({"training": {"alignment": {"co_consumed": 3}}}, "nothing is aligned"),
    ],
)
def test_incompatible_settings_are_refused_before_a_run_begins(
    tmp_path: Path, raw: dict[str, object], says: str
) -> None:
    # Still readable: a run may have been trained with them, or take its model from another run.
    config = parse_config(raw, "here")
    with pytest.raises(BabelrecError, match=says):
        fit(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_settings_of_text_queries_of_earlier_versions_are_read(caplog: pytest.LogCaptureFixture) -> None:
    old = {"model": {"wishes": {"enabled": True, "titles_kept": 0.3}}}
    assert parse_config(old, "here") == parse_config({}, "here")
    assert "model.search" in caplog.text


@pytest.mark.parametrize("override", ["training.epochs", "=3", "name.x=3", "training.epochs=[", "training.epoch=3"])
def test_a_bad_override_is_refused(tmp_path: Path, override: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("name: a\n", encoding="utf-8")
    with pytest.raises(BabelrecError):
        load_config(path, [override])


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "just words"])
def test_a_file_that_is_not_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(BabelrecError, match=r"c\.yaml"):
        load_config(tmp_path / "c.yaml")


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BabelrecError, match=r"nothing\.yaml"):
        load_config(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("# nothing yet\n", "is empty"),
        ("- name: x\n", "contains a list"),
        ("name\n", "contains text"),
        ("training:\nmodel: {}\n", "training is empty. Indent its settings below it"),
        ("training: {histograms: no}\n", "training.histograms is 'no'.*Write false"),
        ("training: {histograms: 'true'}\n", "Write true or false without quotes"),
        ("training: {epochs: '3'}\n", "Write the number without quotes"),
        ("training: {epochs: 010}\n", "without quotes and leading zeros"),
        ("training: {epochs: 1e3}\n", "training.epochs is 1000.0"),
        ("name: 2024\n", 'name is 2024.*Write it in quotes: "2024"'),
        ("name: true\n", 'Write it in quotes: "true"'),
        ("name: ~\n", "Write text"),
        ("data: {source: {name: tabular, interactions: a.csv}}\n", "'data.source.items' is missing"),
        ("1: 2\n", 'Write it in quotes: "1"'),
    ],
)
def test_what_a_file_means_and_what_it_says(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(BabelrecError, match=says) as error:
        load_config(tmp_path / "c.yaml")
    assert "c.yaml" in str(error.value)


def test_a_norwegian_catalogue_needs_no_quotes(tmp_path: Path) -> None:
    source = "{name: tabular, interactions: a.csv, items: b.csv, language: no}"
    (tmp_path / "c.yaml").write_text(f"data:\n  source: {source}\n", encoding="utf-8")
    config = load_config(tmp_path / "c.yaml", ["text.preprocessing={no: [nfc], on: [nfkc]}"])
    assert config.data.source.model_dump()["language"] == "no"
    assert config.text.preprocessing == {"no": ["nfc"], "on": ["nfkc"]}
    (tmp_path / "again.yaml").write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize(
    ("overrides", "origins"),
    [
        (["training.epochs=0"], ["--set training.epochs=0: training.epochs"]),
        (["training.epochs=3", "training.epochs=yes"], ["--set training.epochs=yes: training.epochs"]),
        (["training={epochs: 0}"], ["--set training={epochs: 0}: training.epochs"]),
        (["training.epoch=3"], ["--set training.epoch=3: unknown setting 'training.epoch'. Did you mean 'epochs'"]),
        (["data.source=netflix"], ["--set data.source=netflix: data.source.name"]),
        (["training.epochs=0", "name=x"], ["--set training.epochs=0: training.epochs"]),
        (["name=x"], []),
        (["data.source={name: tabular, items: b.csv}"], ["--set data.source={name: tabular, items: b.csv}: 'data.s"]),
    ],
)
def test_a_fault_of_an_override_names_it_and_not_the_file(
    tmp_path: Path, overrides: list[str], origins: list[str]
) -> None:
    (tmp_path / "c.yaml").write_text("model: {dimension: x}\n", encoding="utf-8")
    with pytest.raises(BabelrecError) as error:
        load_config(tmp_path / "c.yaml", overrides)
    lines = str(error.value).splitlines()
    of_the_file = [line for line in lines if line.startswith(f"{tmp_path / 'c.yaml'}: model.dimension is 'x'")]
    assert len(of_the_file) == 1
    others = [line for line in lines if line not in of_the_file]
    assert len(others) == len(origins)
    assert all(line.startswith(origin) for line, origin in zip(others, origins, strict=True))


def test_an_override_fills_a_section_that_is_empty_and_leaves_anchors_alone(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("training:\n", encoding="utf-8")
    assert load_config(tmp_path / "c.yaml", ["training.epochs=3"]).training.epochs == 3
    shared = "model: {query: &d {feature_dropout: 0.1}, candidate: *d}\n"
    (tmp_path / "c.yaml").write_text(shared, encoding="utf-8")
    model = load_config(tmp_path / "c.yaml", ["model.query.feature_dropout=0.5"]).model
    assert (model.query.feature_dropout, model.candidate.feature_dropout) == (0.5, 0.1)


@pytest.mark.parametrize("override", ["a..b=1", ".a=1", "a.=1", "training.epochs=1\ntraining", "name={a: 1, a: 2}"])
def test_a_malformed_override_is_reported(tmp_path: Path, override: str) -> None:
    (tmp_path / "c.yaml").write_text("{}", encoding="utf-8")
    with pytest.raises(BabelrecError, match="--set"):
        load_config(tmp_path / "c.yaml", [override])


def test_defaults_are_valid() -> None:
    assert Config() == parse_config({}, "defaults")


def test_the_documented_settings_are_those_of_the_code() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page.endswith(settings_markdown()), "write it again: see the page's first line"


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(BabelrecError, match="UTF-8"):
        load_config(tmp_path / "c.yaml")
