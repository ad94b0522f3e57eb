"""Render the studies of the gallery and write docs/gallery.md with their findings and images.

`python -m tools.gallery` renders four studies with the sandbox. `--server URL` renders the fifth on that server, and
`--input NAME=VALUE` sets values for it. A study that is not rendered keeps the section it has.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import sweep
from sweep.cli.shared_options import parse_assignments
from sweep.experiment import write_experiment
from sweep.report import write_sheet
from sweep.sandbox import sandbox_server
from sweep.study import select_headlines, write_decision

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "gallery.md"
HEAD = """# Gallery

Five complete studies: the question, the command, the images, and what sweep found. The images of the first four are
painted by the sandbox, a small server that needs no GPU, so their findings say nothing about a real model. On this page
they have 256 × 256 px; the commands paint larger ones. The fifth study is rendered by a real server.
`python -m tools.gallery` writes this page.
"""
SIDE = 256  # pixels of an image that the sandbox paints
CELL = 88  # pixels of an image on the page
CUP = ("img2img", ["denoise_strength=0.2:0.8:0.2", "seed=1,2,3"])
CUP_COMMAND = (
    'sweep run img2img --image experiments/images/coffee.png --prompt "a cup of coffee" '
    "--axis denoise_strength=0.2:0.8:0.2 --axis seed=1,2,3"
)


@dataclass(frozen=True, slots=True)
class GalleryStudy:
    """One section of the page: what is rendered, and which axes its sheet shows."""

    name: str
    title: str
    command: str
    across: str
    down: str
    fixed: Mapping[str, str] = field(default_factory=dict)
    overrides: Sequence[str] = ()
    is_live: bool = False

    def load(self, inputs: Mapping[str, object]) -> sweep.Experiment:
        """Load the experiment file, or build what the command line says."""
        if self.command.startswith("sweep run experiments/"):
            file = ROOT / self.command.removeprefix("sweep run ")
            return sweep.Experiment.load(file, self.overrides)
        workflow, axes = CUP
        given = {"image": "experiments/images/coffee.png", "prompt": "a cup of coffee", **inputs}
        text = write_experiment(workflow, axes, given, name=self.name, paths_from=ROOT)
        return sweep.Experiment.from_text(text, ROOT)


SMALL = (f"inputs.width={SIDE}", f"inputs.height={SIDE}")
STUDIES = (
    GalleryStudy("cup", "How high may denoise strength be?", CUP_COMMAND, "denoise_strength", "seed"),
    GalleryStudy(
        "cfg_steps",
        "Guidance scale and steps",
        "sweep run experiments/cfg_steps.yaml",
        "cfg_scale",
        "steps",
        overrides=SMALL,
    ),
    GalleryStudy(
        "prompt_matrix",
        "Which word decides the image?",
        "sweep run experiments/prompt_matrix.yaml",
        "season",
        "light",
        {"medium": "watercolour"},
        SMALL,
    ),
    GalleryStudy(
        "product_review",
        "Which lighting, and how strong?",
        "sweep run experiments/product_review.yaml",
        "denoise_strength",
        "variation",
        overrides=SMALL,
    ),
    GalleryStudy(
        "real_cup",
        "The first study, on a real InvokeAI",
        f"{CUP_COMMAND} --server http://gpu1:9090",
        "denoise_strength",
        "seed",
        is_live=True,
    ),
)


def write_section(study: GalleryStudy, experiment: sweep.Experiment, folder: Path, note: str, images: Path) -> str:
    """Study a results folder, draw its sheet and return the section of the page."""
    found = sweep.make_study(folder).to_json()
    counts = sweep.Results.open(folder).counts()
    images.mkdir(parents=True, exist_ok=True)
    (sheet,) = write_sheet(
        folder, x=study.across, y=study.down, fixed=study.fixed, size=CELL, out=images / f"{study.name}.webp"
    )
    decision = write_decision(found)
    findings = [text for text in (decision, *select_headlines(found)) if text]
    distinct = [text for at, text in enumerate(findings) if not any(text in other for other in findings[:at])]
    shown = ", ".join(f"{name} = {value}" for name, value in study.fixed.items())
    lines = [
        f"## {study.title}\n",
        *([f"{experiment.description}\n"] if experiment.description else []),
        f"<!-- {'server' if study.is_live else 'install'} -->\n```console\n$ {study.command}\n```\n",
        f"![{study.across} from left to right, {study.down} from top to bottom](gallery/{sheet.name})\n",
        f"{counts.completed} images{f' (here those with {shown})' if shown else ''}.{note}\n",
        *(f"- {text}" for text in distinct),
    ]
    return "\n".join(lines) + "\n"


def render_study(study: GalleryStudy, server: str, inputs: Mapping[str, object], results: Path) -> str:
    """Render one study and return its section."""
    experiment = study.load(inputs if study.is_live else {"width": SIDE, "height": SIDE})

    async def render() -> sweep.RunSummary:
        if study.is_live:
            return await sweep.run(experiment, [server], results=results)
        async with sandbox_server() as sandbox:
            return await sweep.run(experiment, [sandbox.url], results=results)

    summary = asyncio.run(render())
    said = ", ".join(f"{name} {value}" for name, value in inputs.items())
    if str(inputs.get("model")).startswith("tiny-"):
        said += "; the weights of this model are random, so the findings say nothing about other models"
    note = f" Rendered by InvokeAI with {said or 'its only model'}." if study.is_live else ""
    return write_section(study, experiment, summary.folder, note, PAGE.parent / "gallery")


def split_sections(page: str) -> dict[str, str]:
    """Split a page into its sections by their titles."""
    parts = re.split(r"(?m)^(?=## )", page)
    return {part.split("\n", 1)[0].removeprefix("## "): part for part in parts[1:]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Render the studies and write the page."""
    parser = argparse.ArgumentParser(description="Render the gallery and write docs/gallery.md.")
    parser.add_argument("--server", help="address of a server for the fifth study")
    parser.add_argument("--input", action="append", default=[], help="value for the fifth study: model=NAME")
    parser.add_argument("--only", help="render only this study")
    options = parser.parse_args(arguments)
    old = split_sections(PAGE.read_text(encoding="utf-8")) if PAGE.is_file() else {}
    sections = []
    for study in STUDIES:
        wanted = bool(options.server) if study.is_live else options.only in (None, study.name)
        if wanted:
            with tempfile.TemporaryDirectory() as folder:
                inputs = parse_assignments(options.input, "--input") if study.is_live else {}
                sections.append(render_study(study, options.server or "", inputs, Path(folder)))
        elif study.title in old:
            sections.append(old[study.title].rstrip() + "\n")
    PAGE.write_text("\n".join([HEAD, *sections]), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
