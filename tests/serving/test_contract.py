"""What is exported, asked and documented is one contract."""

from pathlib import Path

from serving import contract
from serving.client import Query
from serving.client.types import inputs_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "model.md"


def test_the_page_holds_the_table() -> None:
    assert contract.inputs_markdown() in PAGE.read_text(encoding="utf-8"), "write it again: python -m serving.contract"


def test_a_query_has_a_field_for_every_input_and_the_same_defaults() -> None:
    inputs = contract.SIGNATURES[contract.RECOMMEND]
    assert set(inputs) == set(Query.__dataclass_fields__)
    arrays = inputs_of(contract.RECOMMEND, [Query()])
    for name, spec in inputs.items():
        assert arrays[name].shape == ((1,) if spec.rank == 1 else (1, 0))
        if spec.rank == 1:
            value = arrays[name][0]
            assert (value.decode() if isinstance(value, bytes) else value) == spec.default
