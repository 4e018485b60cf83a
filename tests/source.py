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


def private_uses(path: Path, own: tuple[str, ...]) -> Iterator[str]:
    """What a Python file uses of other packages' private parts, as ``line: code``.

    Private are modules and names with an underscore before them, modules named ``internal``, TensorFlow's
    ``python``, what a C library exports, and attributes that grpcio calls experimental.

    Args:
        path: The file.
        own: Top-level packages that are not others'.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # Attributes that the file's own classes set may be used on their other instances.
    set_here = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
    } | {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in ast.walk(tree):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names if _is_private(alias.name, own)]
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name for name in full if _is_private(name, own)]
        elif isinstance(node, ast.Attribute):
            name, of = node.attr, ast.unparse(node.value)
            if _has_underscore(name) and of not in ("self", "cls") and f"{of}.{name}" != "os._exit":
                found = [] if name in set_here or name in _NAMED_TUPLE else [f"{of}.{name}"]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            found = (
                [called] if called.startswith(("ctypes.CDLL", "ctypes.PyDLL", "ctypes.cdll", "ctypes.pydll")) else []
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = [node.value] if node.value.startswith(("_ZN", "experimental_thread", "experimental_non")) else []
        yield from (f"{node.lineno}: {name}" for name in found)  # type: ignore[attr-defined]


_NAMED_TUPLE = ("_asdict", "_fields", "_make", "_replace")


def _has_underscore(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _is_private(name: str, own: tuple[str, ...]) -> bool:
    top, *rest = name.split(".")
    if top in own or top == "__future__":
        return False
    return any(map(_has_underscore, [top, *rest])) or "internal" in rest or name.startswith("tensorflow.python")
