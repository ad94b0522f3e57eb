"""`sweep worker`, with a cluster that says what the test tells it to."""

from __future__ import annotations

from typing import Any

import pytest

from sweep import servers
from sweep.cli.main import run_cli
from sweep.servers import AgentDescription

URL = "http://127.0.0.1:9090"


def test_worker_says_the_state_of_the_agent_that_it_started(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def do_nothing(*_: Any) -> None: ...

    monkeypatch.setattr(servers, "join_cluster", do_nothing)
    for found in (
        AgentDescription(name="gpu1", host="h", url=URL, state="ready"),
        AgentDescription(name="gpu1", state="no answer"),
    ):
        monkeypatch.setattr(servers, "start_agent", lambda _, found=found: found)
        assert run_cli(["worker", "--server", URL, "--name", "gpu1"]) == 0
        assert found.state in "".join(capfd.readouterr())
