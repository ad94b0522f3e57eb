"""`sweep worker`, with a cluster that says what the test tells it to."""

from __future__ import annotations

from typing import Any

import pytest

from sweep import servers
from sweep.cli.main import run_cli
from sweep.servers import AgentDescription

URL = "http://127.0.0.1:9090"


@pytest.mark.parametrize(
    ("agent", "code", "words"),
    [
        (AgentDescription(name="gpu1", host="h", url=URL, state="ready"), 0, "ready"),
        (AgentDescription(name="gpu1", host="", url="", state="no answer"), 0, "no answer"),
        (
            AgentDescription(name="gpu1", host="h", url="http://127.0.0.1:1", state="ready"),
            2,
            "serves http://127.0.0.1:1",
        ),
    ],
)
def test_a_worker_says_its_state_and_refuses_only_the_name_of_another_server(
    agent: AgentDescription, code: int, words: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def do_nothing(*_: Any) -> None: ...

    monkeypatch.setattr(servers, "join_cluster", do_nothing)
    monkeypatch.setattr(servers, "start_agent", do_nothing)
    monkeypatch.setattr(servers, "list_agents", lambda: [agent])

    assert run_cli(["worker", "--server", URL, "--name", "gpu1"]) == code
    assert words in "".join(capfd.readouterr())
