"""Digests of source files, ignoring comments, docstrings and layout."""

import ast
import contextlib
import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_any_accepted = False


def digest(patterns: Iterable[str], root: Path = ROOT) -> str:
    """SHA-256 (16 hex digits) over the Python files matching globs below ``root``, the repository.

    Raises:
        ValueError: a pattern matches nothing.
    """
    total = hashlib.sha256()
    for pattern in sorted(set(patterns)):
        files = sorted(root.glob(pattern))
        if not files:
            raise ValueError(f"no source file matches {pattern!r}")
        for file in files:
            total.update(f"{file.relative_to(root)}\n{_meaning(file, file.stat().st_mtime_ns)}\n".encode())
    return total.hexdigest()[:16]


@contextlib.contextmanager
def any_source(accepted: bool = True) -> Iterator[None]:
    """Within this context, `any_source_accepted` is ``accepted`` (``--any-source``)."""
    global _any_accepted
    before, _any_accepted = _any_accepted, accepted
    try:
        yield
    finally:
        _any_accepted = before


def any_source_accepted() -> bool:
    """Whether stored results of other versions of the source files are used."""
    return _any_accepted


@functools.cache
def _meaning(file: Path, changed: int) -> str:
    """The program without comments and docstrings; ``changed`` invalidates the cache for an edited file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
