"""What every test gets: a loop that may not block, limits on its time, quick property tests, a mended aioresponses."""

from __future__ import annotations

import faulthandler
import gc
import inspect
import os
import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING
from unittest.mock import Mock

import aiohttp
import aioresponses.core
import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

from tests.support.left_out import LINES, leave_out, receive_lines, send_lines
from tests.support.limits import default_signals, limit_time

if TYPE_CHECKING:
    from tests.support.ray_cluster import RayCluster

# Some environments forbid Python to keep what it compiled. Each process of the suite and each command it starts would
# then compile all modules and rewrite all tests anew, which is more than half of their processor time.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Collecting garbage finds nothing while tests are imported, and later looks at all of them again and again.
gc.disable()

settings.register_profile("sweep", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sweep")


@pytest.fixture(autouse=True, scope="session")
def loop_may_not_block() -> Iterator[BlockBuster]:
    """Fails a test in which code of ours blocks the event loop (file, socket, sqlite or sleep calls on it)."""
    with blockbuster_ctx("sweep") as guard:
        # a package's face is read when the package is imported, as the import itself reads a file
        guard.functions["io.TextIOWrapper.read"].can_block_in("lazy_loader/__init__.py", {"attach_stub"})
        yield guard


LONGEST = ("test_docs.py", "faults/", "report/test_browser.py", "engine/", "cli/", "study/")
LIVE_TIMEOUT = 300  # seconds a live test may take, the start of its server not counted
FULL_TIMEOUT = 1800  # seconds one of the long tests may take
TEARDOWN_TIMEOUT = 30  # seconds each fixture may take to end, also after a test that ran out of its own time
EXIT_TIMEOUT = 30  # seconds a process of the suite may take to end after its last test


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--slow` runs the tests that take seconds, `--full` those that take minutes, `--live` those on real servers."""
    parser.addoption("--slow", action="store_true", help="run the tests that take seconds each (processes, browsers)")
    parser.addoption("--live", action="store_true", help="run live tests (installs InvokeAI and ComfyUI)")
    parser.addoption("--ray", action="store_true", help="run the tests that start a Ray cluster")
    parser.addoption("--full", action="store_true", help="run the tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what no option asks for; the summary says how much that was.

    A slow test that also needs another option is left out without that one. `--full` runs slow tests too.

    The files that take longest come first, so that no process is left alone with one of them at the end.
    """
    items.sort(key=lambda item: next((at for at, name in enumerate(LONGEST) if name in item.nodeid), len(LONGEST)))
    for item in items:
        if "tests/live/" in item.nodeid:
            item.add_marker("live")
        if item.get_closest_marker("full") is not None:
            item.add_marker(pytest.mark.timeout(FULL_TIMEOUT, func_only=True))
        elif item.get_closest_marker("live") is not None:
            item.add_marker(pytest.mark.timeout(LIVE_TIMEOUT, func_only=True))
    for marker, why in _WHY.items():
        if not config.getoption(f"--{marker}"):
            leave_out(config, items, [item for item in items if item.get_closest_marker(marker)], why)
    if not (config.getoption("--slow") or config.getoption("--full")):
        slow = [item for item in items if item.get_closest_marker("slow") and not _asks_for_more(item)]
        leave_out(config, items, slow, "tests that take seconds each (pytest --slow -m slow)")


def pytest_collection_finish() -> None:
    """Collect garbage again, but not among what the imports made."""
    gc.freeze()
    gc.enable()


def _asks_for_more(item: pytest.Item) -> bool:
    """Tell whether a test belongs to another option's tests, which alone decides then."""
    return any(item.get_closest_marker(marker) for marker in _WHY)


_WHY = {
    "live": "tests that need a real InvokeAI or ComfyUI (pytest tests/live --live)",
    "full": "tests that take minutes (pytest --full)",
    "ray": "tests that start a Ray cluster (pytest --ray -m ray, needs the extra ray)",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One process more than cores, since many tests wait for others; one for the long tests, which start servers.

    Each process more costs some seconds of processor time, in which it imports all that the tests need.
    """
    return 0 if any(config.getoption(f"--{marker}") for marker in _WHY) else 1 + (os.cpu_count() or 1)


def pytest_sessionfinish(session: pytest.Session) -> None:
    send_lines(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    receive_lines(node)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One line for what was left out, instead of one a test."""
    for line in config.stash.get(LINES, []):
        terminalreporter.write_line(line)


class _ResponseOfToday(aiohttp.ClientResponse):
    """aioresponses 0.7.9 builds responses without `stream_writer`, which aiohttp 3.14 requires."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("stream_writer", Mock(output_size=0))
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def cluster() -> Iterator[RayCluster]:
    """Start one Ray cluster for all tests: it demands a token, and this process joins it."""
    from tests.support.ray_cluster import open_cluster

    with open_cluster() as found:
        yield found


@pytest.fixture(autouse=True, scope="session")
def children_heed_signals() -> Iterator[None]:
    """Let a suite in the background test what a Ctrl-C and a closed terminal do to its children."""
    with default_signals():
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Limit the time of fixtures that end; pytest-timeout watches nothing more once a test ran out of time."""
    with limit_time(0 if item.config.option.usepdb else TEARDOWN_TIMEOUT):
        return (yield)


def pytest_unconfigure() -> None:
    """End this process where a thread that a test left behind would keep it for ever.

    A worker of xdist waits here for the slowest of the others, and the process that started it ends it then.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        faulthandler.dump_traceback_later(EXIT_TIMEOUT, exit=True, file=2)


@pytest.fixture(autouse=True, scope="session")
def aioresponses_knows_aiohttp() -> Iterator[None]:
    """Only where aiohttp asks for the argument that aioresponses does not pass."""
    if "stream_writer" in inspect.signature(aiohttp.ClientResponse.__init__).parameters:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(aioresponses.core, "ClientResponse", _ResponseOfToday)
            yield
    else:
        yield
