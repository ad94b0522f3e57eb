"""Results folders that commit 612be7f wrote, with the experiments they are of."""

from __future__ import annotations

import shutil
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "fixtures" / "results-612be7f"
OLDER_RESULTS = ("sandbox-img2img", "sandbox-txt2img", "invokeai-img2img")


def copy_older_results(name: str, into: Path) -> Path:
    """Copy the experiments and one results folder into a folder; gives the results folder."""
    for file in [*FOLDER.glob("*.yaml"), FOLDER / "photo.png"]:
        shutil.copy(file, into)
    return Path(shutil.copytree(FOLDER / "results" / name, into / "results" / name))
