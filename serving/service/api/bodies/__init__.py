"""The forms of requests and answers, for pydantic and for /docs."""
