"""Servers with a login, behind a proxy with a path prefix and a private CA, used from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from sweep.cli.servers import Cluster
from sweep.errors import UsageError
from sweep.sandbox import SandboxOptions, sandbox_server
from sweep.sandbox.service import Sandbox
from tests.cli.conftest import Sweep, write_experiment
from tests.support.tls_proxy import CA, proxy

EMAIL, PASSWORD = "me@example.org", "c4n4ry-p4ssw0rd"


@dataclass(frozen=True, slots=True)
class Guarded:
    """A sandbox that wants a login, as it is seen from outside."""

    sandbox: Sandbox
    url: str

    def token(self) -> str:
        found = self.sandbox.accounts.log_in(EMAIL, PASSWORD)
        assert found is not None
        return found


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as found:
        yield found


@pytest.fixture
def guarded(portal: BlockingPortal) -> Iterator[Guarded]:
    options = SandboxOptions(users={EMAIL: PASSWORD})
    with (
        portal.wrap_async_context_manager(sandbox_server(options)) as sandbox,
        portal.wrap_async_context_manager(proxy(sandbox.url, "/studio/invoke")) as url,
    ):
        yield Guarded(sandbox, url)


@pytest.fixture
def arguments(home: Path, guarded: Guarded) -> list[str]:
    file = write_experiment(home / "small.yaml", axes={"seed": [1, 2]})
    return ["run", str(file), "--server", guarded.url, "--ca-file", str(CA), "--no-report", "--progress", "none"]


def _told(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_run_uses_the_token_of_the_environment(
    sweep: Sweep, home: Path, guarded: Guarded, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = guarded.token()
    monkeypatch.setenv("SWEEP_TOKEN", token)
    answer = sweep(*arguments)
    assert answer.code == 0, answer.err
    assert guarded.sandbox.events.sent > 0  # the socket came through, too
    assert token.encode() not in _told(home / "results")


def test_run_uses_email_and_password_of_the_environment(
    sweep: Sweep, home: Path, guarded: Guarded, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_EMAIL", EMAIL)
    monkeypatch.setenv("SWEEP_PASSWORD", PASSWORD)
    answer = sweep(*arguments)
    assert answer.code == 0, answer.err
    assert PASSWORD.encode() not in _told(home / "results")


def test_run_accepts_only_private_credentials_files(
    sweep: Sweep, home: Path, guarded: Guarded, arguments: list[str]
) -> None:
    secrets = home / "secrets.toml"
    server = json.dumps(guarded.url)
    secrets.write_text(f'[servers.{server}]\nemail = "{EMAIL}"\npassword = "{PASSWORD}"\n')
    secrets.chmod(0o644)
    refused = sweep(*arguments, "--credentials", secrets)
    assert (refused.code, "others may read" in refused.err) == (2, True)
    secrets.chmod(0o600)
    answer = sweep(*arguments, "--credentials", secrets)
    assert answer.code == 0, answer.err


def test_run_without_valid_credentials_is_an_error(
    sweep: Sweep, home: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = sweep(*arguments)
    assert answer.code == 3
    assert "wants a login." in answer.err
    monkeypatch.setenv("SWEEP_TOKEN", "made-up")
    answer = sweep(*arguments)
    assert (answer.code, "Invalid or expired token" in answer.err, "made-up" in answer.err) == (3, True, False)
    assert not list(home.glob("results/*/images/*"))


def test_run_refuses_an_unknown_certificate(sweep: Sweep, arguments: list[str]) -> None:
    at = arguments.index("--ca-file")
    answer = sweep(*arguments[:at], *arguments[at + 2 :])
    assert answer.code == 3
    assert "--ca-file" in answer.err


def test_run_reports_a_wrong_path_of_a_proxy(sweep: Sweep, guarded: Guarded, arguments: list[str]) -> None:
    arguments[arguments.index("--server") + 1] = guarded.url.replace("/studio/invoke", "")
    answer = sweep(*arguments)
    assert answer.code == 3
    assert "Is that an InvokeAI or a ComfyUI?" in answer.err


def test_options_of_a_cluster_need_one() -> None:
    assert Cluster.of(None) is None
    with pytest.raises(UsageError, match="--with needs --on ray"):
        Cluster.of(None, "invokeai-web --port 9090")
    with pytest.raises(UsageError, match="--images shared needs --on ray"):
        Cluster.of(None, shared=Path("results"))
    with pytest.raises(UsageError, match="on ray only"):
        Cluster.of("dask")
