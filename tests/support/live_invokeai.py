"""A real InvokeAI 6.14.2 on CPU with tiny models, on a machine that has never seen one.

Installed once (a virtual environment and five models, 3 GB, some minutes) under $SWEEP_LIVE or ~/.cache/sweep-live;
after that a server starts in about half a minute, with a root folder of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.support.live_server import HERE, ServerInstallation, ServerProcess

PACKAGE = "invokeai-6.14.2"
MODELS = {
    "tiny-sd": "tiny-sd",
    "tiny-sdxl": "tiny-sdxl",
    "tiny-controlnet": "tiny-controlnet",
    "tiny-lora": "tiny-lora.safetensors",
    "tiny-sdxl-lora": "tiny-sdxl-lora.safetensors",
}
SETTINGS = {"schema_version": "4.0.3", "host": "127.0.0.1", "device": "cpu", "precision": "float32"}


@dataclass(frozen=True, slots=True)
class Installation(ServerInstallation):
    """Where InvokeAI and the models lie."""

    NAME = "InvokeAI 6.14.2"
    HOME = ("SWEEP_LIVE", "sweep-live")
    STEPS = (
        ("torch==2.13.0",),
        ("invokeai==6.14.2", "torch==2.13.0", "torchvision==0.28.0"),
        ("--no-deps", "open_clip_torch==3.3.0"),  # for its CLIP vocabulary alone
    )
    LAST = "open_clip"

    @property
    def package(self) -> Path | None:
        """The folder of the installed invokeai package; None where it is not installed."""
        found = sorted((self.home / "venv").glob(f"**/site-packages/{PACKAGE}.dist-info"))
        return found[0].with_name("invokeai") if found else None

    def make_models(self) -> None:
        if not all((self.home / "models" / source).exists() for source in MODELS.values()):
            self.run([self.python, HERE / "tiny_models.py", self.home / "models"], "models.log")


@dataclass(slots=True)
class LiveServer(ServerProcess):
    """One InvokeAI; `settings` go into its invokeai.yaml, over the usual ones."""

    GREETING = "/api/v1/app/version"

    def command(self) -> list[str]:
        lines = {**SETTINGS, "port": self.port, **self.settings}
        (self.root / "invokeai.yaml").write_text("".join(f"{name}: {json.dumps(v)}\n" for name, v in lines.items()))
        return [str(self.installation.python), str(HERE / "serve_invokeai.py"), "--root", str(self.root)]

    def environment(self) -> Mapping[str, str]:
        return {"HF_HUB_OFFLINE": "1", "INVOKEAI_ROOT": str(self.root)}

    def install_models(self) -> None:
        """Make the tiny models known to it; they stay where they are."""
        for name, source in MODELS.items():
            query = urlencode({"source": str(self.installation.home / "models" / source), "inplace": "true"})
            self.ask("POST", f"/api/v2/models/install?{query}", {"name": name})
        self.wait_until(
            lambda: set(MODELS) <= {m["name"] for m in self.ask("GET", "/api/v2/models/")["models"]}, "installed"
        )


@contextmanager
def serving(root: Path, settings: Mapping[str, Any] | None = None) -> Iterator[LiveServer]:
    """A server with the tiny models, installed and started for as long as the context lasts."""
    installation = Installation.default()
    installation.ensure()
    server = LiveServer(installation, root, settings=settings or {})
    try:
        server.start()
        server.install_models()
        yield server
    finally:
        server.stop()
