"""What the documents say is true: generated pages are current, every command and line of Python in them runs.

They run on a copy of the experiments whose pictures are small.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image
from typer import Context
from typer.main import get_command

import sweep
from sweep.cli import app
from sweep.cli.line import command_line
from sweep.cli.reference import command_reference
from sweep.experiment.reference import experiment_reference

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
READ_ONLY = {
    "server": "needs a server of one's own",
    "running": "needs a run that is going on",
    "install": "is what CI does in a clean clone",
}
"""Marks of fences whose commands are only parsed here, and why."""
LANGUAGES = {"console", "python", "yaml", "toml", "text", "json"}


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: what stands after the backticks, and its lines."""

    language: str
    mark: str
    text: str
    line: int


def blocks(document: Path) -> Iterator[Block]:
    """Every fenced block, in order."""
    text = document.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w*) ?(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        language, mark, content = found.groups()
        yield Block(language, mark, content, text[: found.start()].count("\n") + 1)


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command of a console block, after `$ sweep`."""
    for line in block.text.splitlines():
        assert line.startswith("$ sweep "), f"{line!r} is not a command of ours"
        yield shlex.split(line.removeprefix("$ sweep "))


def named(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


@pytest.mark.parametrize(
    ("file", "current"), [("commands.md", command_reference), ("experiment-file.md", experiment_reference)]
)
def test_generated_pages_are_current(file: str, current: object) -> None:
    assert callable(current)
    module = current.__module__
    assert (ROOT / "docs" / file).read_text(encoding="utf-8") == current(), f"python -m {module} > docs/{file}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_fences_are_of_a_known_kind(document: Path) -> None:
    for block in blocks(document):
        assert block.language in LANGUAGES, f"{named(document)}:{block.line}"
        assert block.mark == "" or block.mark in READ_ONLY, f"{named(document)}:{block.line}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_command_parses(document: Path) -> None:
    line = get_command(command_line())
    whole = Context(line, info_name="sweep")
    for block in blocks(document):
        if block.language == "console" and block.mark != "install":
            for name, *rest in commands(block):
                command = line.get_command(whole, name)  # type: ignore[attr-defined]
                assert command is not None, f"{named(document)}:{block.line}: there is no sweep {name}"
                command.make_context(name, rest, parent=whole)


def runs(document: Path) -> bool:
    return any(block.language in ("console", "python") and not block.mark for block in blocks(document))


@pytest.mark.parametrize("document", [each for each in DOCUMENTS if runs(each)], ids=named)
def test_every_command_and_every_line_of_python_runs(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    for file in (tmp_path / "experiments").glob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        if "width:" not in text:
            text = re.sub(r"^(inputs:.*)$", r"\1\n  width: 64\n  height: 64", text, count=1, flags=re.MULTILINE)
        file.write_text(text, encoding="utf-8")
    for form in ("text_to_image", "image_to_image"):
        shutil.copy(ROOT / "tests" / "workflow" / "portable" / f"{form}.json", tmp_path / f"{form}_workflow.json")
    for picture in ("portrait.png", "product.png"):
        Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(tmp_path / picture)
    monkeypatch.chdir(tmp_path)
    module = ModuleType("document")  # what it defines can be imported, as from a file
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in blocks(document):
        place = f"{named(document)}:{block.line}"
        if block.mark:
            continue
        if block.language == "python":
            exec(compile(block.text, place, "exec"), module.__dict__)
        elif block.language == "console":
            for words in commands(block):
                assert app.run(words) == 0, f"{place}: sweep {shlex.join(words)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text):
        assert (document.parent / target).exists(), f"{named(document)} leads to {target}"


def test_public_names() -> None:
    assert sweep.__all__ == sorted(sweep.__all__)
    assert set(sweep._HOMES) == set(sweep.__all__)
    for name in sweep.__all__:
        assert getattr(sweep, name).__doc__, f"sweep.{name} says nothing of itself"
        assert f"`{name}" in (ROOT / "docs" / "python.md").read_text(encoding="utf-8") or name[0].isupper()
    with pytest.raises(AttributeError, match="has no attribute 'sweeep'"):
        _ = sweep.sweeep
