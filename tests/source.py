"""What the project's own source files import."""

import ast
from collections.abc import Iterator
from pathlib import Path


def imports(path: Path, *, at_load: bool = False) -> Iterator[tuple[str, list[str]]]:
    """(module, names imported from it; none for ``import module``) for each import of a Python file.

    Args:
        path: The file.
        at_load: Only what runs when the file is imported: neither in functions nor for types alone.
    """
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if at_load:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                waiting += node.orelse
                continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path} imports relatively"
            assert not node.level, f"{path} imports relatively"
            yield node.module, [alias.name for alias in node.names]


def imported_packages(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere."""
    return {module.partition(".")[0] for module, _ in imports(path)}
