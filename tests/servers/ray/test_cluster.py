"""Joining a cluster: what is refused, what is missing, and what a person is told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sweep.errors import ServerUnreachableError, UsageError
from sweep.servers.ray.agent import AgentDescription, AgentSettings, derive_url
from sweep.servers.ray.cluster import explain_join_failure, require_token, start_servers

OPEN = AgentDescription(name="gpu1", host="gpu1", url="http://127.0.0.1:9090", state="ready")
SAFE = AgentDescription(name="gpu2", host="gpu2", url="http://127.0.0.1:9090", state="ready", has_token=True)
MISMATCH = """Version mismatch: The cluster was started with:
    Ray: 2.60.0
    Python: 3.12.1
This process on Ray 2.60.0 was started with:
    Ray: 2.60.0
    Python: 3.11.7
"""


def test_cluster_without_a_token_is_refused_unless_insecure() -> None:
    require_token([SAFE], insecure=False)
    require_token([OPEN], insecure=True)
    with pytest.raises(UsageError, match="demands no token") as refused:
        require_token([SAFE, OPEN], insecure=False)
    assert "--insecure-ray" in (refused.value.hint or "")


def test_version_mismatch_is_a_sentence() -> None:
    error = explain_join_failure("", RuntimeError(MISMATCH))
    assert isinstance(error, UsageError)
    assert "\n" not in str(error)
    assert "different versions of Ray or Python: The cluster was started with: Ray: 2.60.0 Python: 3.12.1" in str(error)
    other = explain_join_failure("head:6379", RuntimeError("nobody there\n at all"))
    assert isinstance(other, ServerUnreachableError)
    assert "at head:6379 (nobody there)" in str(other)


@pytest.mark.parametrize(
    ("command", "address"),
    [
        ("invokeai-web --host 127.0.0.1 --port 9090", "http://127.0.0.1:9090"),
        ("python main.py --port={port}", "http://127.0.0.1:{port}"),
        ("invokeai-web", ""),
    ],
)
def test_derive_url_reads_the_port(command: str, address: str) -> None:
    assert derive_url(command) == address


def test_with_needs_a_port() -> None:
    with pytest.raises(UsageError, match="does not say where"):
        start_servers("invokeai-web", AgentSettings(name="", url=""))


def test_without_ray_nothing_of_it_is_imported_and_on_says_what_to_install() -> None:
    program = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "ray" else find(name, *more)
from sweep.cli.main import run_cli
print(run_cli(["plan", "--help"]), "ray" in sys.modules, "sweep.servers.ray" in sys.modules)
sys.exit(run_cli(["workers"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "0 False False"
    assert done.returncode == 2
    assert "pip install 'sweep-engine[ray]'" in done.stderr
