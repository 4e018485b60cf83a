"""The YAML reader: what it accepts, what it refuses, and the locations it reports."""

from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from trainer.documents import MAX_BYTES, dump_yaml, load_yaml, parse_yaml, read_yaml
from trainer.errors import BabelrecError

_REPOSITORY = Path(__file__).resolve().parents[2]
_FILES = sorted(
    path for folder in ("configs", "benchmarks", "serving") for path in (_REPOSITORY / folder).rglob("*.yaml")
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # By hand from the core schema of https://yaml.org/spec/1.2.2/#103-core-schema.
        ("no", "no"),
        ("NO", "NO"),
        ("yes", "yes"),
        ("on", "on"),
        ("Off", "Off"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("12:30", "12:30"),
        ("1:30:00", "1:30:00"),
        ("2024-01-01", "2024-01-01"),
        ("2024-01-01T10:00:00Z", "2024-01-01T10:00:00Z"),
        ("010", "010"),
        ("007", "007"),
        ("0", 0),
        ("-3", -3),
        ("0x1F", 31),
        ("1_000", 1000),
        ("1e3", 1000.0),
        ("1e-3", 0.001),
        ("-1.5E+2", -150.0),
        (".5", 0.5),
        ("1.", 1.0),
        (".inf", float("inf")),
        ("~", None),
        ("null", None),
        ("", None),
        ("'null'", "null"),
        ("'1'", "1"),
        ("=", "="),
        ("日本語 🎬", "日本語 🎬"),
        ("مرحبا", "مرحبا"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = parse_yaml(f"key: {text}\n", "here")
    assert found == {"key": value}
    assert isinstance(found, dict)
    assert type(found["key"]) is type(value)


@pytest.mark.parametrize("path", _FILES, ids=lambda path: str(path.relative_to(_REPOSITORY)))
def test_every_yaml_of_the_repository_reads_as_pyyaml_reads_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if len(list(yaml.safe_load_all(text))) == 1:
        wanted = yaml.safe_load(text)

        def numbers(value: object) -> object:
            """PyYAML leaves `3e-3` as text."""
            if isinstance(value, dict):
                return {key: numbers(each) for key, each in value.items()}
            if isinstance(value, list):
                return [numbers(each) for each in value]
            if isinstance(value, str) and value[:1].isdigit() and "e" in value:
                try:
                    return float(value)
                except ValueError:
                    return value
            return value

        assert numbers(parse_yaml(text, path.name)) == numbers(wanted)


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        ("training: {epochs: 3}\nmodel: {}\ntraining: {batch_size: 64}\n", "training", (3, 1)),
        ("a:\n  b:\n    c: 1\n    d: 2\n    c: 3\n", "c", (5, 3)),
        ("- {x: 1}\n- {y: 1,\n   y: 2}\n", "y", (3, 2)),
        ('a: 1\n"a": 2\n', "a", (2, 1)),
        ("一: 1\n二: 2\n一: 3\n", "一", (3, 1)),
        ("1: a\n1.0: b\n", "1.0", (2, 1)),
        ("~: a\nnull: b\n", "null", (2, 1)),
        ("1: a\ntrue: b\n", "true", (2, 1)),
        ("base: &b {x: 1}\nother: &o {y: 1}\nc:\n  <<: *b\n  <<: *o\n", "<<", (5, 4)),
        ("a: 1\r\nb: 2\r\na: 3\r\n", "a", (3, 1)),
    ],
)
def test_a_repeated_key_is_named_with_both_lines(text: str, key: str, lines: tuple[int, int]) -> None:
    with pytest.raises(BabelrecError) as error:
        parse_yaml(text, "my.yaml")
    assert str(error.value).startswith(f"my.yaml, line {lines[0]}, column ")
    assert f"the key {key!r} already occurs in line {lines[1]}" in str(error.value)


def test_a_merged_key_may_be_overridden_and_keys_of_other_types_are_others() -> None:
    found = parse_yaml("base: &b {x: 1, y: 2}\nc: {<<: *b, x: 3}\n", "here")
    assert found == {"base": {"x": 1, "y": 2}, "c": {"x": 3, "y": 2}}
    assert parse_yaml("{2: a, '2': b, true: c, 'true': d}", "here") == {2: "a", "2": "b", True: "c", "true": "d"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a:\n\tb: 1\n", "line 2, column 1: a tab where YAML needs spaces"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: a second document begins here"),
        ("a: b: c\n", "line 1, column 5: not valid YAML.*Quote text"),
        ("a: 1\nb:2\nc: 3\n", "line 3.*a colon and a space"),
        ("a: *.csv\n", r"begins with `\*`"),
        ("a: [1\n", "line 2, column 1: not valid YAML"),
        ("a: !!python/object/apply:os.system [ls]\n", "line 1, column 4: the tag .*python.*not supported"),
        ("a: !!str 3\n", "the tag .* not supported"),
        ("!mine\na: 3\n", "the tag '!mine'"),
        ("a: &x [*x]\n", "line 1, column 4: an anchor that contains itself"),
        ("a: &x {b: *x}\n", "an anchor that contains itself"),
        ("[" * 200 + "]" * 200, "nested more than 100 levels deep"),
        ("[" * 50_000, "nested more than 100 levels deep"),
        ("a: 1\nb: \x07\n", "line 2: YAML does not allow the character U\\+0007"),
        ("a: " + "9" * 5_000, "is not valid YAML"),
        ("? [1]\n: 2\n", "unhashable"),
    ],
)
def test_a_fault_is_placed_and_has_a_remedy(text: str, says: str) -> None:
    with pytest.raises(BabelrecError, match=says) as error:
        parse_yaml(text, "my.yaml")
    assert str(error.value).startswith("my.yaml")
    assert "unicode string" not in str(error.value)


@pytest.mark.parametrize(
    "laughs",
    [
        "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 70)),
        "a0: &a0 {k: x}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 70)),
    ],
    ids=["lists", "merges"],
)
def test_a_billion_laughs_are_refused_before_they_are_written_out(laughs: str) -> None:
    with pytest.raises(BabelrecError, match="once its aliases are expanded"):
        parse_yaml(laughs, "my.yaml")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("name: x\n".encode("utf-16"), "UTF-16. Save it as UTF-8"),
        ("name: x\nnote: ü\n".encode("latin-1"), "line 2: the byte 0xFC is not UTF-8"),
        (b"\x00\x00\x00", r"U\+0000"),
        (b"a: 1\n" + b"#" * MAX_BYTES, "larger than 16 MiB"),
    ],
    ids=["utf-16", "latin-1", "nul", "large"],
)
def test_bytes_that_are_not_text_are_reported(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(BabelrecError, match=says) as error:
        load_yaml(tmp_path / "c.yaml", what="the config")
    assert "c.yaml" in str(error.value)


def test_a_byte_order_mark_is_not_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes("名前: x\n".encode("utf-8-sig"))
    assert load_yaml(tmp_path / "c.yaml", what="it") == {"名前": "x"}


@pytest.mark.parametrize("place", ["missing.yaml", ".", "file/below.yaml", "nul\0.yaml"])
def test_what_is_not_a_file_is_reported(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BabelrecError, match="Can't read the list: ") as error:
        load_yaml(tmp_path / place, what="the list")
    assert ("is a directory" in str(error.value)) == (place == ".")


def test_content_of_another_form_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("a: [1, x]\n")
    with pytest.raises(BabelrecError, match=r"c\.yaml: a\.1: .*received 'x'.*as in the example"):
        read_yaml(tmp_path / "c.yaml", TypeAdapter(dict[str, list[int]]), what="it", remedy="as in the example.")


@pytest.mark.parametrize(
    "text",
    ["1e3", "no", "on", "~", "null", "", "010", "0o7", "0x1F", "12:30", "2024-01-01", "<<", "=", "true", "1_000", ".5",
     "\ufeff", "a: b", "# x", "- x", "*x", "&x", "\x07\x85", "日本\n語 🎬", "\u2028", "'", '"', " x ", "1.5e-3", "-"],
)  # fmt: skip
def test_text_is_written_so_that_it_stays_text(text: str) -> None:
    for value in (text, {text: [text]}, {"a": {"b": text}}):
        assert parse_yaml(dump_yaml(value), "here") == value
        assert yaml.safe_load(dump_yaml(value)) == value


def test_numbers_are_written_so_that_they_stay_numbers() -> None:
    values = [0, -1, 10**18, 0.0, -0.5, 1e-05, 1e22, 1.7976931348623157e308, float("inf"), True, None]
    assert parse_yaml(dump_yaml(values), "here") == values
    assert yaml.safe_load(dump_yaml(values)) == values
