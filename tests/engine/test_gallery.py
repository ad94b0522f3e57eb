"""Boards, images of the gallery and workflows of the library that an experiment names."""

from __future__ import annotations

from dataclasses import replace

from sweep.engine import make_forecast
from sweep.engine.events import Notice
from sweep.sandbox.service import Sandbox
from sweep.servers import connect
from tests.support.engine_bench import AT_ONCE, Bench
from tests.support.mutating_proxy import hide_the_sandbox, open_proxy


async def test_a_board_that_the_server_lacks_is_noted_by_plan_and_run(bench: Bench, sandbox: Sandbox) -> None:
    experiment = await bench.experiment(axes={"seed": [1]}, board="cofee")
    async with open_proxy(sandbox.url, hide_the_sandbox) as proxy:
        note = 'has no board "cofee" yet; the run creates it.'
        forecast = await make_forecast(experiment, [connect(proxy.url)], bench.root)
        assert [text for text in forecast.board_notes if note in text]
        await sandbox.images.create_board("coffee")
        options = replace(AT_ONCE, board="cofee")
        await bench.run(experiment, proxy.url, options=options)
        await bench.run(experiment, proxy.url, options=options)  # finds the board that the first one made
    (told,) = [event.message for event in bench.of(Notice) if note in event.message]
    assert told.endswith("Did you mean coffee?")
    assert "cofee" in {board["board_name"] for board in sandbox.images.boards.values()}
