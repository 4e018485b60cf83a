"""The version, apart from all that importing `trainer` does."""

__version__ = "0.1.0"
