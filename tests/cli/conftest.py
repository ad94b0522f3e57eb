"""A folder with a space in its name, small experiments in it, and the command line in this process."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from PIL import Image

from sweep.cli import main as app
from sweep.sandbox import FaultInjection, SandboxOptions, sandbox_server

SMALL: dict[str, Any] = {
    "name": "small",
    "description": "How much of a gradient survives?",
    "workflow": "img2img",
    "inputs": {"image": "photo.png", "prompt": "a cup", "steps": 4, "width": 64, "height": 64},
    "axes": {"denoise_strength": [0.2, 0.5, 0.8], "variation": ["oil", "ink"], "seed": {"start": 42, "count": 2}},
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command left behind in the terminal."""

    code: int
    out: str
    err: str


Sweep = Callable[..., Answer]


@pytest.fixture
def sweep(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """The command line through its real entry point, in this process."""
    monkeypatch.setenv("COLUMNS", "80")

    def invoke(*arguments: str | Path) -> Answer:
        capsys.readouterr()
        code = app.run_cli([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    return invoke


def write_photo_and_experiment(folder: Path) -> None:
    """An experiment and its photograph."""
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(folder / "photo.png")
    write_experiment(folder / "small.yaml")


def write_experiment(path: Path, **changes: Any) -> Path:
    """The small experiment with some of its keys replaced, None removing one."""
    content = {key: value for key, value in {**SMALL, **changes}.items() if value is not None}
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")  # JSON is YAML
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a furnished folder."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    write_photo_and_experiment(folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def _rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: the small experiment, run and studied."""
    folder = tmp_path_factory.mktemp("a run")
    write_photo_and_experiment(folder)
    results = folder / "results"
    assert app.run_cli(["run", str(folder / "small.yaml"), "--results", str(results), "--progress", "none"]) == 0
    return results / "small"


@pytest.fixture
def done(home: Path, _rendered: Path) -> Path:
    """A copy of a finished run's results folder, of one's own."""
    return Path(shutil.copytree(_rendered, home / "results" / "small"))


class _Unknown(BaseHTTPRequestHandler):
    """Says of everything that it is InvokeAI 99."""

    def do_GET(self) -> None:
        """Always the same."""
        body = b'{"version": "99.0.0", "queue": {"pending": 0}}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def unknown_server() -> Iterator[str]:
    """The address of a server of a version that nobody knows."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Unknown)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def sandbox(options: SandboxOptions) -> Iterator[str]:
    """A sandbox on a loop of its own."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(sandbox_server(options)) as found:
        yield found.url


@pytest.fixture
def hostile() -> Iterator[str]:
    """A sandbox at which every item fails."""
    with sandbox(SandboxOptions(faults=FaultInjection(fail_rate=1.0))) as url:
        yield url


@pytest.fixture
def named() -> Iterator[str]:
    """A sandbox whose model is called as another server's."""
    with sandbox(SandboxOptions(models=("tiny-sd:sd-1:main",))) as url:
        yield url
