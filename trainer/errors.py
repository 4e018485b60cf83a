"""The one exception that users are meant to read."""


class BabelrecError(Exception):
    """A fault in what the user gave: data, settings, a run or model directory.

    The text names the thing and the remedy; the command line prints it without a traceback.
    """
