"""What the documents say is true: generated pages are current, every command and line of Python in them runs.

They run on a copy of the experiments whose images are small.
"""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import typer
from anyio.from_thread import start_blocking_portal
from PIL import Image
from typer import Context
from typer.main import get_command

import sweep
from sweep.cli import main as app
from sweep.cli.parser import command_line
from sweep.experiment import Experiment
from sweep.plan import make_plan
from sweep.sandbox import SandboxOptions, catalogue, sandbox_server
from sweep.workflow import builtin_schemas
from tools.generate_reference import PAGES

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
    *sorted((ROOT / "docs").glob("*.md")),
]
MARKS = {
    "": "runs as it stands",
    "server": "runs with sandboxes at the addresses it names",
    "running": "runs while the experiment it names is rendered",
    "install": "is what CI does in a clean clone, and is not run here",
}
"""What stands behind the language of a fence with commands, and how they are tested."""
SLOW = "slow"
LANGUAGES = {"console", "python", "yaml", "toml", "text", "json", "mermaid"}


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


def test_generated_pages_are_current() -> None:
    for file, page in PAGES.items():
        current = (ROOT / "docs" / file).read_text(encoding="utf-8")
        assert current == page(), f"docs/{file}: run python -m tools.generate_reference"


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_fences_are_of_a_known_kind(document: Path) -> None:
    for block in blocks(document):
        assert block.language in LANGUAGES, f"{named(document)}:{block.line}"
        assert block.mark in MARKS, f"{named(document)}:{block.line}"


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
    return any(block.language in ("console", "python") and block.mark != "install" for block in blocks(document))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of who follows a document: the experiments, small, and the files it speaks of."""
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    for file in (tmp_path / "experiments").glob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        if "width:" not in text:
            text = re.sub(r"^(inputs:.*)$", r"\1\n  width: 64\n  height: 64", text, count=1, flags=re.MULTILINE)
        file.write_text(text, encoding="utf-8")
    portable = ROOT / "tests" / "fixtures" / "portable"
    for form in ("text_to_image", "image_to_image"):
        shutil.copy(portable / f"{form}.json", tmp_path / f"{form}_workflow.json")
    shutil.copy(portable / "text_to_image.json", tmp_path / "my-workflow.json")
    for image in ("portrait.png", "product.png"):
        Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(tmp_path / image)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def servers() -> Iterator[dict[str, str]]:
    """Sandboxes that stand where the documents say gpu1 and gpu2, and one so slow that a run is not over at once."""
    with start_blocking_portal() as portal, ExitStack() as stack:

        def begun(latency: float) -> str:
            context = sandbox_server(SandboxOptions(latency=latency))
            return stack.enter_context(portal.wrap_async_context_manager(context)).url

        yield {"http://gpu1:9090": begun(0), "http://gpu2:9090": begun(0), SLOW: begun(0.1)}


def while_it_runs(words: list[str], address: str) -> int:
    """The command, given while the experiment it names is rendered; that run has to end as if by Ctrl-C."""
    fresh = f"inputs.prompt={words[0]}"  # points that no command before has rendered
    experiment = [f"experiments/{words[-1]}.yaml", "--set", fresh, "--server", address, "--no-report"]
    line = [sys.executable, "-m", "sweep", "run", *experiment, "--progress", "json"]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for told in process.stdout:
            if b'"Started"' in told:
                break
        code = app.run_cli(words)
        process.communicate()
    assert process.returncode == 130
    return code


def until_control_c(words: list[str]) -> int:
    """A command that serves until it is ended: its address is printed, and Ctrl-C ends it quietly."""
    with subprocess.Popen([sys.executable, "-m", "sweep", *words], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        assert process.communicate()[0] == b""
    return 0 if process.returncode == 130 else process.returncode


def perform(block: Block, words: list[str], servers: dict[str, str]) -> int:
    """One command of a document, as its mark says; its exit code."""
    words = [servers.get(word, word) for word in words]
    if words[0] == "sandbox":
        return until_control_c([word if word != "9091" else "0" for word in words])
    if block.mark == "running":
        return while_it_runs(words, servers[SLOW])
    return app.run_cli(words)


@pytest.mark.parametrize("document", [each for each in DOCUMENTS if runs(each)], ids=named)
@pytest.mark.usefixtures("desk")
def test_every_command_and_every_line_of_python_runs(
    document: Path, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(typer, "launch", opened.append)
    module = ModuleType("document")  # what it defines can be imported, as from a file
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in blocks(document):
        place = f"{named(document)}:{block.line}"
        if block.mark == "install":
            continue
        if block.language == "python":
            exec(compile(block.text, place, "exec"), module.__dict__)
        elif block.language == "console":
            for words in commands(block):
                assert perform(block, words, servers) == 0, f"{place}: sweep {shlex.join(words)}"
                assert bool(opened) == ("--view" in words), place
                opened.clear()


EXAMPLES = [block for block in blocks(ROOT / "docs" / "axes.md") if block.language == "yaml"]


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: str(block.line))
def test_every_kind_of_axis_has_the_points_its_example_says(block: Block, desk: Path) -> None:
    shutil.copytree(desk / "experiments" / "images", desk / "images")
    (desk / "prompts.txt").write_text("# lights\na red cup\na blue cup\n\na glass\n", encoding="utf-8")
    (desk / "shots.csv").write_text("Light,Scale,Steps\nsoft light,5,10\nneon light,9,30\n", encoding="utf-8")
    head, _, _ = EXAMPLES[0].text.partition("axes:")
    file = desk / "mine.yaml"
    file.write_text(block.text if "workflow:" in block.text or "include:" in block.text else head + block.text, "utf-8")
    said = re.search(r"# (?:.*= )?(\d+)(?: of \d+)? points", block.text)
    assert said is not None
    plan = make_plan(Experiment.load(file), builtin_schemas(), catalogue(["sd-1"]))
    assert len(plan) == int(said[1])


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text):
        assert (document.parent / target).exists(), f"{named(document)} leads to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_files_named_in_documents_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:tests|sweep|tools|benchmarks|docs|experiments)/[\w/.-]+)`", text):
        assert (ROOT / path).exists(), f"{named(document)} names {path}"


def test_site_has_every_document() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r": ([\w-]+\.md)$", site, re.MULTILINE))
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_code_cites_only_documents_of_the_repository() -> None:
    for path in (ROOT / "sweep").rglob("*.py"):
        for document in re.findall(r"[\w./-]+\.md\b", path.read_text(encoding="utf-8")):
            assert (ROOT / document).exists() or (ROOT / "docs" / document).exists(), f"{path} cites {document}"


def test_public_names() -> None:
    for name in sweep.__all__:
        assert getattr(sweep, name).__doc__, f"sweep.{name} says nothing of itself"
        assert f"`{name}" in (ROOT / "docs" / "python.md").read_text(encoding="utf-8") or name[0].isupper()
