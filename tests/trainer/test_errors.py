"""Parts of messages."""

from trainer.errors import first_line, shortened


def test_long_texts_end_in_an_ellipsis() -> None:
    assert shortened("x" * 80) == "x" * 80
    assert shortened("x" * 81) == "x" * 77 + "..."
    assert shortened("abcdefg", 6) == "abc..."


def test_an_error_that_says_nothing_is_named_by_its_type() -> None:
    assert first_line(AssertionError()) == "AssertionError"
    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert len(first_line(ValueError("x" * 999))) == 300
