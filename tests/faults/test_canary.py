"""What must stay secret appears in no file, key, report or line that is printed."""

from __future__ import annotations

import urllib.parse
from base64 import b64encode
from pathlib import Path

import pytest

from tests.support.processes import Bench

pytestmark = pytest.mark.slow  # each test starts several processes

TOKEN, PASSWORD = "canary-token-8d1f0a", "canary-password-77c2e9"
SECRET = [TOKEN, PASSWORD, b64encode(PASSWORD.encode()).decode(), urllib.parse.quote(PASSWORD)]


def leaks(bench: Bench, *printed: str) -> list[str]:
    """Where a canary sings: files under the results and everything printed."""
    found = [f"printed: {text}" for text in printed if any(secret in text for secret in SECRET)]
    for path in (bench.folder / "results").rglob("*"):
        if path.is_file() and any(secret.encode() in path.read_bytes() for secret in SECRET):
            found.append(str(path))
    return found


@pytest.mark.parametrize("by", ["environment", "file"])
def test_no_secret_is_told(bench: Bench, by: str) -> None:
    server = bench.sandbox(faults={"fail_rate": 0.3, "error_401": 0.02, "spare": 40, "most": 2})
    file = bench.folder / "credentials.toml"
    file.write_text(f'token = "{TOKEN}"', encoding="utf-8")
    file.chmod(0o600)
    more = ["--credentials", str(file)] if by == "file" else []
    environment = {"SWEEP_TOKEN": TOKEN, "SWEEP_EMAIL": "a@b.c", "SWEEP_PASSWORD": PASSWORD} if by != "file" else {}
    experiment, address = str(bench.write()), ["--server", server.url]
    printed = [
        bench.sweep("plan", experiment, *address, *more, **environment)[1],
        bench.sweep("run", experiment, *address, *more, "--progress", "json", **environment)[1],
        bench.sweep("run", experiment, *address, *more, "--progress", "plain", "--retry-failed", **environment)[1],
        bench.sweep("status", "small", **environment)[1],
        bench.sweep("table", "small", **environment)[1],
        bench.sweep("verify", "small", **environment)[1],
    ]
    assert all(printed), printed
    assert list((bench.folder / "results").rglob("results.csv")), "the credentials were taken, and images rendered"
    assert leaks(bench, *printed) == []
    server.kill()


def test_no_secret_is_told_where_it_is_refused_or_nobody_answers(bench: Bench) -> None:
    server = bench.sandbox(faults={"error_401": 1.0})
    environment = {"SWEEP_TOKEN": TOKEN, "SWEEP_EMAIL": "a@b.c", "SWEEP_PASSWORD": PASSWORD}
    experiment = str(bench.write())
    refused = bench.sweep("run", experiment, "--server", server.url, **environment)
    server.kill()
    gone = bench.sweep("run", experiment, "--server", server.url, **environment)
    typed = bench.sweep("run", experiment, "--server", f"http://me:{PASSWORD}@127.0.0.1:1", **environment)
    assert [refused[0], gone[0], typed[0]] == [3, 3, 2], (refused, gone, typed)
    assert leaks(bench, refused[1], gone[1], typed[1]) == []


def test_the_canary_would_be_heard(bench: Bench) -> None:
    """The test can fail: a secret in an image's text or a log is found."""
    place = bench.folder / "results" / "x"
    place.mkdir(parents=True)
    Path(place / "log").write_text(f"Authorization: Bearer {TOKEN}", encoding="utf-8")
    assert leaks(bench) == [str(place / "log")]
    assert leaks(bench, f"said {PASSWORD}")[0].startswith("printed")
