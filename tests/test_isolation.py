"""Test modules stand alone: helpers that several of them use live in their folder or in tests/support."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent


def test_no_test_module_is_imported_by_another() -> None:
    assert not [f"{user}: {module}" for user, module in _imports() if module.rpartition(".")[2].startswith("test_")]


def test_helpers_of_several_rooms_live_in_support() -> None:
    foreign = [
        f"{user}: {module}"
        for user, module in _imports()
        if module.split(".")[1:2] not in ([user.parts[0]], ["support"])
    ]
    assert not foreign


def _imports() -> Iterator[tuple[Path, str]]:
    """Each import of one of our test packages, with the file that has it."""
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            yield from ((path.relative_to(TESTS), name) for name in names if name.split(".")[0] == "tests")
