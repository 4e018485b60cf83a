"""What a translator may use up: requests, characters, tokens. Nothing is spent beyond it."""

from dataclasses import dataclass

from trainer.errors import BabelrecError


@dataclass(slots=True)
class Budget:
    """Counts what was spent, and refuses what would go beyond a limit before it is spent.

    Attributes:
        max_requests: Attempts, repeated ones included; None: no limit.
        max_characters: Characters sent.
        max_tokens: Tokens read and written.
        requests: Spent so far.
        characters: Spent so far.
        tokens: Spent or set aside so far.
    """

    max_requests: int | None = None
    max_characters: int | None = None
    max_tokens: int | None = None
    requests: int = 0
    characters: int = 0
    tokens: int = 0

    def reserve(self, characters: int, tokens: int) -> None:
        """Spends one request and sets its size aside.

        Args:
            characters: That will be sent.
            tokens: The most that it can take.

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
                    f"The translation budget does not allow for the next request: {spent:,} {name} are spent, it may "
                    f"take {more:,} more, and text.translation.openai.max_{name} is {limit:,}. What is translated so "
                    "far is kept; raise the limit and run the same command again."
                )
        self.requests += 1
        self.characters += characters
        self.tokens += tokens

    def settle(self, reserved: int, used: int) -> None:
        """Corrects the tokens of a request that has been answered, from what was set aside to what it took."""
        self.tokens += used - reserved
