"""The exception for errors meant for users."""


class BabelrecError(Exception):
    """A fault in user input: data, settings, a run or model directory.

    The text states the fault and the remedy; the command line prints it without a traceback.
    """
