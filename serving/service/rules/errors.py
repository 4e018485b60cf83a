"""What is wrong in a document of rules."""


class RulesError(ValueError):
    """A mistake in a document of rules; the text names the place and the remedy."""
