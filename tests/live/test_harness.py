"""The harness itself: what it starts is the real thing, and a crash can be had."""

from __future__ import annotations

from pathlib import Path

from tests.live.harness import MODELS, LiveServer


def test_the_real_server_has_the_tiny_models(live: LiveServer) -> None:
    assert live.ask("GET", "/api/v1/app/version") == {"version": "6.14.2"}
    assert {model["name"] for model in live.ask("GET", "/api/v2/models/")["models"]} == set(MODELS)


def test_a_killed_server_comes_back_on_its_port_with_its_models(own_live_server: LiveServer) -> None:
    url = own_live_server.url

    own_live_server.kill()
    assert not own_live_server.answers()
    own_live_server.start()

    assert own_live_server.url == url
    assert len(own_live_server.ask("GET", "/api/v2/models/")["models"]) == len(MODELS)


def test_the_package_ships_its_default_workflows(invokeai_package: Path) -> None:
    assert len(list(invokeai_package.glob("app/services/workflow_records/default_workflows/*.json"))) == 26
