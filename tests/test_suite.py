"""The suite itself: test modules stand alone, children heed signals, fixtures end."""

from __future__ import annotations

import functools
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.limits import default_signals, limit_time

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


@functools.cache
def _imports() -> tuple[tuple[Path, str], ...]:
    """Read each import of one of our test packages once, with the file that has it."""
    return tuple(_read_imports())


def _read_imports() -> Iterator[tuple[Path, str]]:
    for path in TESTS.rglob("*.py"):
        names = re.findall(r"^ *(?:from|import) (tests[.\w]*)", path.read_text(encoding="utf-8"), re.MULTILINE)
        yield from ((path.relative_to(TESTS), name) for name in names)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_children_of_a_suite_in_the_background_heed_signals() -> None:
    names = ("SIGINT", "SIGHUP")
    before = [signal.signal(getattr(signal, name), signal.SIG_IGN) for name in names]
    program = f"import signal; print(*(signal.getsignal(getattr(signal, name)) for name in {names}))"
    try:
        with default_signals():
            child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert [signal.getsignal(getattr(signal, name)) for name in names] == [signal.SIG_IGN] * 2
    finally:
        for name, handler in zip(names, before, strict=True):
            signal.signal(getattr(signal, name), handler)
    assert child.stdout == "<built-in function default_int_handler> 0\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no interval timer")
def test_each_fixture_that_does_not_end_fails() -> None:
    with limit_time(600):
        assert signal.getitimer(signal.ITIMER_REAL)[1] == 600, "it comes again after as much"
        for _ in range(2):
            with pytest.raises(pytest.fail.Exception, match="did not end within 600 s"):
                signal.raise_signal(signal.SIGALRM)
    assert 1 < signal.getitimer(signal.ITIMER_REAL)[0] < 500, "the test's own limit holds again"


def test_promises_name_tests_that_exist() -> None:
    """Each row of docs/promises.md names its tests: a file and a function, then more functions of that file."""
    root = TESTS.parent
    rows = [
        line for line in (root / "docs" / "promises.md").read_text(encoding="utf-8").splitlines() if "tests/" in line
    ]
    missing: list[str] = []
    for row in rows:
        functions: list[str] = []
        for file, name in re.findall(r"`(?:((?:tests|sweep)/[\w/]+\.py)(?:::)?)?(test_\w+)?`", row):
            if file:
                functions = re.findall(r"def (test_\w+)", (root / file).read_text(encoding="utf-8"))
            if (name and name not in functions) or (not name and file.startswith("tests/")):
                missing.append(f"{file}::{name}")
    assert len(rows) >= 45
    assert not missing
