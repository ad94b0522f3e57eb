"""The harness itself: what it starts is the real thing, and a crash can be had."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.live_invokeai import MODELS, Installation, LiveServer
from tests.support.live_server import HERE, HarnessError

VACUUM_IN_A_TRANSACTION = """
import logging, pathlib, sys, threading
import vacuum
vacuum.take_turns()
from invokeai.app.services.shared.sqlite.sqlite_database import SqliteDatabase

database = SqliteDatabase(pathlib.Path(sys.argv[1]), logging.getLogger())
vacuuming = threading.Thread(target=database.clean)
with database.transaction() as cursor:
    cursor.execute("CREATE TABLE items (id INTEGER)")
    cursor.execute("INSERT INTO items VALUES (1)")
    vacuuming.start()
    vacuuming.join(1)
    print("waits" if vacuuming.is_alive() else "does not wait")
vacuuming.join()
"""


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


def test_a_vacuum_waits_for_the_worker(live_python: Path, tmp_path: Path) -> None:
    """Without that a server now and then does not start again, and the test that killed it fails."""
    command = [str(live_python), "-c", VACUUM_IN_A_TRANSACTION, str(tmp_path / "invokeai.db")]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("waits\n", 0), done.stderr


def test_a_server_that_does_not_start_says_why(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "databases").write_text("a file where a folder should be")
    with pytest.raises(HarnessError, match=r"ended \(\d\) before it answered[\s\S]*Error"):
        LiveServer(installation, tmp_path).start()


def test_the_package_ships_its_default_workflows(invokeai_package: Path) -> None:
    assert len(list(invokeai_package.glob("app/services/workflow_records/default_workflows/*.json"))) == 26
