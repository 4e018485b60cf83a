"""Names of categories in many languages."""

from pathlib import Path

import pytest

from trainer.data.category_names import CategoryNames, names_digest
from trainer.errors import BabelrecError


def test_each_label_has_its_own_names_once(tmp_path: Path) -> None:
    file = tmp_path / "names.yaml"
    file.write_text("War: {en: [War, a war film], ko: [전쟁]}\nOther: {en: [x]}\n", encoding="utf-8")
    names = CategoryNames.load(file, ["Drama", "War"])
    assert names.texts == ["Drama", "War", "a war film", "전쟁"]
    assert names.splits == [0, 1, 4]


def test_without_a_file_a_label_is_its_only_name() -> None:
    names = CategoryNames.load(None, ["Drama", "War"])
    assert (names.texts, names.splits) == (["Drama", "War"], [0, 1, 2])


@pytest.mark.parametrize(
    ("text", "message"),
    [("Krieg: {de: [Krieg]}", "none of the dataset"), ("War: {no: krig}", "War"), ("War: {en: [' ']}", "empty name")],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "names.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BabelrecError, match=message):
        CategoryNames.load(file, ["War"])


def test_the_digest_tells_names_and_not_how_they_are_written(tmp_path: Path) -> None:
    def digest(text: str) -> str | None:
        file = tmp_path / "names.yaml"
        file.write_text(text, encoding="utf-8")
        return names_digest(file)

    first = digest("War: {en: [War], ko: [전쟁]}\n")
    assert digest("# Of films.\nWar:\n  ko:\n  - 전쟁\n  en: [War]\n") == first
    assert len({first, digest("War: {en: [War]}\n"), digest("War: {en: [War], ko: [전투]}\n"), names_digest(None)}) == 4
