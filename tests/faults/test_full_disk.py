"""A disk that is full at any write: exit 4 and a sentence; with space again the same command renders nothing twice."""

from __future__ import annotations

import pytest

from tests.support.processes import Bench

pytestmark = pytest.mark.slow  # each test starts several processes


@pytest.mark.parametrize("kilobytes", [64, 4, 20, 48, 90, 120, 160])
def test_a_write_that_does_not_fit(bench: Bench, kilobytes: int) -> None:
    """No file may grow beyond a limit, which is met by images first, by the journal's log later, or by the tables."""
    server = bench.sandbox()
    code, said = bench.run(server, largest_file=kilobytes * 1024)
    assert code in ((4,) if kilobytes < 64 else (0, 4)), (said, bench.log())
    assert "Traceback" not in bench.log()
    assert bench.run(server)[0] == 0, bench.log()
    assert bench.statuses() == {"completed": 6}
    assert bench.results.verify() == []
    assert sorted(server.renders().values()) == [1] * 6
    server.kill()
