"""Where tests stop a transaction or a process."""


def step(name: str) -> None:
    """Does nothing: tests replace it, to wait or to fail between two steps of an operation."""
