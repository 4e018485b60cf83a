"""Errors meant for users."""


class BabelrecError(Exception):
    """A fault in user input: data, settings, a run or model directory.

    The text states the fault and the remedy; the command line prints it without a traceback.
    """


def shortened(text: str, most: int = 80) -> str:
    """Text for a message: of more than ``most`` characters the first, and an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def first_line(error: BaseException) -> str:
    """What a library's error says, in one line of at most 300 characters; the name of its type if it says nothing."""
    return shortened((str(error).strip() or type(error).__name__).splitlines()[0], 300)
