"""Hard limits on a translator's requests, characters and tokens."""

from dataclasses import dataclass

from trainer.errors import BabelrecError


@dataclass(slots=True)
class Budget:
    """Counts what was spent, and refuses anything that would exceed a limit.

    Attributes:
        max_requests: Attempts, repeated ones included; None: no limit.
        max_characters: Characters sent.
        max_tokens: Tokens read and written.
        requests: Spent so far.
        characters: Spent so far.
        tokens: Spent or reserved so far.
    """

    max_requests: int | None = None
    max_characters: int | None = None
    max_tokens: int | None = None
    requests: int = 0
    characters: int = 0
    tokens: int = 0

    def reserve(self, characters: int, tokens: int) -> None:
        """Spends one request and reserves its size.

        Args:
            characters: Number of characters to send.
            tokens: The maximum that it can use.

        Raises:
            BabelrecError: A limit would be exceeded; nothing is spent.
        """
        for name, spent, more, limit in (
            ("requests", self.requests, 1, self.max_requests),
            ("characters", self.characters, characters, self.max_characters),
            ("tokens", self.tokens, tokens, self.max_tokens),
        ):
            if limit is not None and spent + more > limit:
                raise BabelrecError(
                    f"The translation budget does not cover the next request: {spent:,} {name} are spent, it may "
                    f"need {more:,} more, and text.translation.openai.max_{name} is {limit:,}. Translations so "
                    "far are kept; raise the limit and run the same command again."
                )
        self.requests += 1
        self.characters += characters
        self.tokens += tokens

    def reconcile(self, reserved: int, used: int) -> None:
        """Replaces the reserved tokens of an answered request by those actually used."""
        self.tokens += used - reserved
