"""What the documents say is true: generated pages are current, every command and line of Python in them runs.

They run on a copy of the experiments whose images are small.
"""

from __future__ import annotations

import json
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
from sweep.cli.parser import COMMANDS, command_line
from sweep.experiment import Experiment
from sweep.plan import make_plan
from sweep.sandbox import SandboxOptions, catalogue, sandbox_server
from sweep.workflow import load_builtin_schemas
from tests.support.left_out import mark_rest_slow
from tools.gallery import STUDIES, split_sections
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
"""What a comment before a fence with commands says, and how they are tested."""
SLOW = "slow"
LANGUAGES = {"console", "python", "yaml", "toml", "text", "json", "mermaid"}


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its language, the mark in a comment before it, and its lines."""

    language: str
    mark: str
    text: str
    line: int


def blocks(document: Path) -> Iterator[Block]:
    """Every fenced block, in order."""
    text = document.read_text(encoding="utf-8")
    for found in re.finditer(r"^(?:<!-- (\w+) -->\n)?```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        mark, language, content = found.groups(default="")
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


def all_blocks() -> Iterator[tuple[str, Block]]:
    """Every block of every document, and where it stands."""
    for document in DOCUMENTS:
        for block in blocks(document):
            yield f"{named(document)}:{block.line}", block


def test_fences_are_of_a_known_kind() -> None:
    for place, block in all_blocks():
        assert block.language in LANGUAGES, place
        assert block.mark in MARKS, place


def test_every_command_parses() -> None:
    line = get_command(command_line())
    whole = Context(line, info_name="sweep")
    for place, block in all_blocks():
        if block.language == "console" and block.mark != "install":
            for name, *rest in commands(block):
                command = line.get_command(whole, name)  # type: ignore[attr-defined]
                assert command is not None, f"{place}: there is no sweep {name}"
                try:
                    command.make_context(name, rest, parent=whole)
                except Exception as error:
                    error.add_note(f"in {place}")
                    raise


def runs(document: Path) -> bool:
    return any(block.language in ("console", "python") and block.mark != "install" for block in blocks(document))


BRIEF = ("docs/comfyui.md",)
"""Documents whose commands and code take little; they run in the default suite."""


def _order_by_length() -> list[Path]:
    """Documents that have something to run, the brief ones first."""
    return sorted((each for each in DOCUMENTS if runs(each)), key=lambda each: named(each) not in BRIEF)


FEWER = {"step: 0.1}": "step: 0.5}", "count: 4}": "count: 2}"}
"""What makes the large study small: 18 points instead of 132."""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of who follows a document: the experiments, small, and the files it speaks of.

    Images are measured in this process: worker processes have tests of their own, and take a second each to start.
    """
    (tmp_path / "experiments" / "images").mkdir(parents=True)
    for file in (ROOT / "experiments" / "images").glob("*.png"):
        with Image.open(file) as image:
            image.resize((64, 64)).save(tmp_path / "experiments" / "images" / file.name)
    shutil.copy(ROOT / "experiments" / "photo_restyle.json", tmp_path / "experiments")
    for file in (ROOT / "experiments").glob("*.yaml"):
        text = re.sub(r"(width|height): 512", r"\1: 64", file.read_text(encoding="utf-8"))
        for old, new in FEWER.items():
            text = text.replace(old, new)
        (tmp_path / "experiments" / file.name).write_text(text, encoding="utf-8")
    monkeypatch.setattr("sweep.study.measuring.workers._count_workers", lambda *_: 0)
    portable = ROOT / "tests" / "fixtures" / "portable"
    for form in ("text_to_image", "image_to_image"):
        shutil.copy(portable / f"{form}.json", tmp_path / f"{form}_workflow.json")
    shutil.copy(portable / "text_to_image.json", tmp_path / "my-workflow.json")
    ratings = {"schema": 1, "ratings": {}, "choices": []}
    (tmp_path / "ratings.json").write_text(json.dumps(ratings), encoding="utf-8")
    for name in ("portrait.png", "product.png"):
        Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(tmp_path / name)
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
    many = "axes.seed={start: 42, count: 100}"
    experiment = [f"experiments/{words[-1]}.yaml", "--set", fresh, "--set", many, "--server", address, "--no-report"]
    line = [sys.executable, "-m", "sweep", "run", *experiment, "--progress", "json", "--fuse", "off"]
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


@pytest.mark.parametrize("document", mark_rest_slow(_order_by_length(), len(BRIEF)), ids=named)
@pytest.mark.usefixtures("desk")
@pytest.mark.timeout(180)  # one of them has thirty commands
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


def test_every_kind_of_axis_has_the_points_its_example_says(desk: Path) -> None:
    shutil.copytree(desk / "experiments" / "images", desk / "images")
    (desk / "prompts.txt").write_text("# lights\na red cup\na blue cup\n\na glass\n", encoding="utf-8")
    (desk / "shots.csv").write_text(
        "Title,Iterations,Light,Scale,Steps\nSoft,2,soft light,5,10\nNeon,1,neon light,9,30\n", "utf-8"
    )
    head, _, _ = EXAMPLES[0].text.partition("axes:")
    file = desk / "mine.yaml"
    assert len(EXAMPLES) >= 15
    for block in EXAMPLES:
        is_whole = "workflow:" in block.text or "include:" in block.text
        file.write_text(block.text if is_whole else head + block.text, "utf-8")
        said = re.search(r"# (?:.*= )?(\d+)(?: of \d+)? points", block.text)
        assert said is not None, block.line
        plan = make_plan(Experiment.load(file), load_builtin_schemas(), catalogue(["sd-1"]))
        assert len(plan) == int(said[1]), block.line


def test_links_lead_somewhere() -> None:
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text):
            assert (document.parent / target).exists(), f"{named(document)} leads to {target}"


def test_files_named_in_documents_exist() -> None:
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for path in re.findall(r"`((?:tests|sweep|tools|benchmarks|docs|experiments)/[\w/.-]+)`", text):
            assert (ROOT / path).exists(), f"{named(document)} names {path}"


def test_site_has_every_document() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r": ([\w-]+\.md)$", site, re.MULTILINE))
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")}


TOPICS = (
    *("own workflow", "random seeds", "negative prompts", "two models", "wildcards", "lora weights", "several servers"),
    *("ssh", "docker", "nightly job", "resume", "redo", "rename", "move a run", "share", "rate", "gate"),
    *("troubleshooting symptom", "delete", "excel", "not responding", "cannot connect", "rerender", "spreadsheet"),
    *("container", "stars", "checkpoints", "perceptual similarity", "continue", "remove", "cron"),
)
"""What people look for, and find in the recipes."""


@pytest.mark.slow
def test_site_builds_without_warnings_and_its_search_finds_each_recipe(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for name in ("mkdocs.yml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    build = [sys.executable, "-m", "zensical", "build", "--strict"]
    built = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "No issues found" in built.stdout + built.stderr
    entries = json.loads((tmp_path / "site" / "search.json").read_text(encoding="utf-8"))["items"]
    assert not [each["location"] for each in entries if "```" in each["text"]]  # a fence that is shown as text
    for topic in TOPICS:
        named = [each for each in entries if set(topic.split()) <= set(re.findall(r"\w+", each["title"].lower()))]
        assert any(each["location"].startswith("recipes/#") for each in named), topic
        assert len(named) <= 3, topic


def test_python_has_a_call_for_each_command() -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]*) \| (`[^|]+) \|", page, re.MULTILINE)
    named = {command for first, _ in rows for command in re.findall(r"`([a-z]+)", first)}
    assert named == set(COMMANDS)
    for _, calls in rows:
        for path in re.findall(r"(?<![\w.])sweep((?:\.\w+)+)", calls):
            assert path.split(".")[1] in sweep.__all__, f"import sweep is not enough for sweep{path}"
            found = sweep
            for part in path.removeprefix(".").split("."):
                found = getattr(found, part)
            assert found.__doc__, path


def test_readme_and_tutorial_begin_with_the_same_commands() -> None:
    first, second = (
        re.findall(r"^\$ (.+)$", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)[:3]
        for name in ("README.md", "docs/tutorial.md")
    )
    assert first == second
    assert len(first) == 3


def test_gallery_shows_five_studies_in_small_images() -> None:
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    images = re.findall(r"\]\((gallery/\w+\.webp)\)", page)
    assert images == [f"gallery/{study.name}.webp" for study in STUDIES]
    assert list(split_sections(page)) == [study.title for study in STUDIES]
    assert sum((ROOT / "docs" / image).stat().st_size for image in images) < 1_000_000


def test_code_cites_only_documents_of_the_repository() -> None:
    for path in (ROOT / "sweep").rglob("*.py"):
        for document in re.findall(r"[\w./-]+\.md\b", path.read_text(encoding="utf-8")):
            assert (ROOT / document).exists() or (ROOT / "docs" / document).exists(), f"{path} cites {document}"


def test_public_names() -> None:
    for name in sweep.__all__:
        assert getattr(sweep, name).__doc__, f"sweep.{name} says nothing of itself"
        assert f"sweep.{name}" in (ROOT / "docs" / "python.md").read_text(encoding="utf-8") or name[0].isupper()
