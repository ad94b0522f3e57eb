"""Options that commands share: a run is found, an experiment is typed without a file, servers want a login."""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from sweep.cli.run import RunAccess
from sweep.cli.shared_options import locate_run
from sweep.errors import RecordError, UsageError
from sweep.record import find_run
from sweep.sandbox import SandboxOptions, sandbox_server
from sweep.sandbox.running_sandbox import Sandbox
from tests.cli.conftest import Sweep, write_experiment
from tests.support.tls_proxy import CA, proxy


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("test-0", "slow", "given name"):
        folder = tmp_path / "results" / name
        folder.mkdir(parents=True)
        (folder / "journal.sqlite").touch()
    (tmp_path / "named.yaml").write_text("name: given name\nworkflow: txt2img\n", encoding="utf-8")
    (tmp_path / "slow.yaml").write_text("workflow: txt2img\n", encoding="utf-8")
    return tmp_path / "results"


def test_a_run_is_found_by_name_by_path_and_by_its_experiment_file(root: Path) -> None:
    assert locate_run("test-0", root) == root / "test-0"
    assert locate_run("results/slow", root) == Path("results/slow")
    assert locate_run("slow.yaml", root) == root / "slow"
    assert locate_run("named.yaml", root) == root / "given name"


@pytest.mark.parametrize(
    "run",
    [
        "test-0.3",
        "archive/slow.old",
        "archive/slow",
        "slow.old",
        "gone/slow.yaml",
        "../slow",
        "",
        "slow.yml",
        "a\0b",
        "x" * 5_000,
        "x" * 5_000 + ".yaml",
    ],
)
def test_a_run_that_does_not_exist_is_not_answered_with_another(root: Path, run: str) -> None:
    with pytest.raises(UsageError, match="There is no results folder"):
        locate_run(run, root)


def test_a_message_lists_ten_of_200_runs(root: Path) -> None:
    for number in range(200):
        (root / f"night-{number:03}").mkdir()
        (root / f"night-{number:03}" / "journal.sqlite").touch()
    with pytest.raises(UsageError) as told:
        locate_run("zzz", root)
    assert str(told.value.hint).count(str(root)) == 10
    assert str(told.value.hint).endswith(", …")


def test_a_folder_that_may_not_be_read_is_not_said_to_be_missing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so the system's refusal is made up."""

    def refuse(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(RecordError, match=r"results/slow could not be read \(Permission denied\)"):
        find_run("results/slow", root)


TYPED = (
    *("img2img", "--image", "photo.png", "--prompt", "a cup", "--axis", "denoise_strength=0.2:0.8:0.3"),
    *("--axis", "seed=1,2", "--input", "width=64", "--input", "height=64", "--input", "steps=4"),
)


def keys(sweep: Sweep, run: str) -> list[str]:
    return [row["key"] for row in json.loads(sweep("table", run, "-f", "json").out)]


@pytest.mark.usefixtures("home")
def test_run_without_a_file_renders_and_says_how_to_continue_it(sweep: Sweep) -> None:
    answer = sweep("run", *TYPED, "--no-report")
    name = f"photo-{date.today().isoformat()}"  # noqa: DTZ011
    assert answer.code == 0, answer.err
    assert f"To continue this run on another day: sweep run {Path('results', name, 'experiment.yaml')}" in answer.err
    assert f"{name}  6 points" in answer.err
    assert len(keys(sweep, name)) == 6
    assert "To keep this experiment as a file, add --save photo.yaml." in sweep("plan", *TYPED).err


def test_any_name_of_a_photo_makes_the_name_of_a_run(sweep: Sweep, home: Path) -> None:
    day = date.today().isoformat()  # noqa: DTZ011
    names = {"My Photo (1)": "My Photo 1", "_#": "image", "(-x": "x", "é" * 90: "é" * 69}  # with the day, 80 letters
    for stem, name in names.items():
        photo = f"{stem}.png"
        shutil.copy("photo.png", photo)
        answer = sweep("plan", "img2img", "--image", photo, "--axis", "seed=1,2")
        assert answer.out.startswith(f"{name}-{day}\n"), answer.err
    answer = sweep("plan", "img2img", "--image", "photo.png", "--axis", "seed=1,2", "--save", "cup (1).yaml")
    assert answer.out.startswith("cup 1\n"), answer.err


def test_save_writes_a_file_with_the_same_keys(sweep: Sweep, home: Path) -> None:
    (home / "files").mkdir()
    saved = Path("files", "cup.yaml")
    answer = sweep("run", *TYPED, "--save", saved, "--no-report")
    assert (answer.code, "Wrote files" in answer.err) == (0, True)
    typed = keys(sweep, "cup")
    again = sweep("run", saved, "--no-report")
    assert again.out.startswith("6 of 6 done already; nothing to render."), again.err
    assert keys(sweep, "cup") == typed


@pytest.mark.usefixtures("home")
def test_plan_without_a_file_counts_points_and_writes_nothing(sweep: Sweep, home: Path) -> None:
    before = sorted(home.iterdir())
    assert "6 = 3 × 2" in sweep("plan", *TYPED).out
    assert json.loads(sweep("plan", *TYPED, "--json").out)["points"] == 6
    assert sorted(home.iterdir()) == before


@pytest.mark.slow
def test_run_accepts_an_image_that_contains_a_workflow(sweep: Sweep, done: Path) -> None:
    image = min((done / "images").iterdir())
    answer = sweep("plan", image, "--axis", "seed=1,2,...,5", "--input", "image=photo.png")
    assert (answer.code, answer.err.count("\n")) == (0, 1), answer.err
    assert re.search(r"points +5 ", answer.out)


@pytest.mark.usefixtures("home")
def test_run_for_programs_prints_events_and_no_notice(sweep: Sweep) -> None:
    answer = sweep("run", *TYPED, "--no-report", "--progress", "json")
    assert (answer.code, answer.err) == (0, "")
    told = [json.loads(line)["event"] for line in answer.out.splitlines()]
    assert (told.count("Completed"), told[-1]) == (6, "RunEnded")


@pytest.mark.usefixtures("home")
def test_run_without_progress_prints_nothing(sweep: Sweep) -> None:
    answer = sweep("run", *TYPED, "--no-report", "--progress", "none")
    assert (answer.code, answer.out, answer.err) == (0, "", "")


EMAIL, PASSWORD = "me@example.org", "c4n4ry-p4ssw0rd"


@dataclass(frozen=True, slots=True)
class Guarded:
    """A sandbox that wants a login, as it is seen from outside."""

    sandbox: Sandbox
    url: str

    def token(self) -> str:
        found = self.sandbox.accounts.log_in(EMAIL, PASSWORD)
        assert found is not None
        return found


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as found:
        yield found


@pytest.fixture
def guarded(portal: BlockingPortal) -> Iterator[Guarded]:
    options = SandboxOptions(users={EMAIL: PASSWORD})
    with (
        portal.wrap_async_context_manager(sandbox_server(options)) as sandbox,
        portal.wrap_async_context_manager(proxy(sandbox.url, "/studio/invoke")) as url,
    ):
        yield Guarded(sandbox, url)


@pytest.fixture
def arguments(home: Path, guarded: Guarded) -> list[str]:
    file = write_experiment(home / "small.yaml", axes={"seed": [1, 2]})
    return ["run", str(file), "--server", guarded.url, "--ca-file", str(CA), "--no-report", "--progress", "none"]


def _told(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_run_uses_the_token_of_the_environment(
    sweep: Sweep, home: Path, guarded: Guarded, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = guarded.token()
    monkeypatch.setenv("SWEEP_TOKEN", token)
    answer = sweep(*arguments)
    assert answer.code == 0, answer.err
    assert guarded.sandbox.events.sent > 0  # the socket came through, too
    assert token.encode() not in _told(home / "results")


def test_run_uses_email_and_password_of_the_environment(
    sweep: Sweep, home: Path, guarded: Guarded, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_EMAIL", EMAIL)
    monkeypatch.setenv("SWEEP_PASSWORD", PASSWORD)
    answer = sweep(*arguments)
    assert answer.code == 0, answer.err
    assert PASSWORD.encode() not in _told(home / "results")


def test_run_accepts_only_private_credentials_files(
    sweep: Sweep, home: Path, guarded: Guarded, arguments: list[str]
) -> None:
    secrets = home / "secrets.toml"
    server = json.dumps(guarded.url)
    secrets.write_text(f'[servers.{server}]\nemail = "{EMAIL}"\npassword = "{PASSWORD}"\n')
    secrets.chmod(0o644)
    refused = sweep(*arguments, "--credentials", secrets)
    assert (refused.code, "others may read" in refused.err) == (2, True)
    secrets.chmod(0o600)
    answer = sweep(*arguments, "--credentials", secrets)
    assert answer.code == 0, answer.err


def test_run_without_valid_credentials_is_an_error(
    sweep: Sweep, home: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = sweep(*arguments)
    assert answer.code == 3
    assert "wants a login." in answer.err
    monkeypatch.setenv("SWEEP_TOKEN", "made-up")
    answer = sweep(*arguments)
    assert (answer.code, "Invalid or expired token" in answer.err, "made-up" in answer.err) == (3, True, False)
    assert not list(home.glob("results/*/images/*"))


def test_run_refuses_an_unknown_certificate(sweep: Sweep, arguments: list[str]) -> None:
    at = arguments.index("--ca-file")
    answer = sweep(*arguments[:at], *arguments[at + 2 :])
    assert answer.code == 3
    assert "--ca-file" in answer.err


def test_run_reports_a_wrong_path_of_a_proxy(sweep: Sweep, guarded: Guarded, arguments: list[str]) -> None:
    arguments[arguments.index("--server") + 1] = guarded.url.replace("/studio/invoke", "")
    answer = sweep(*arguments)
    assert answer.code == 3
    assert "Is that an InvokeAI or a ComfyUI?" in answer.err


def test_options_of_a_cluster_need_one() -> None:
    with pytest.raises(UsageError, match="--with needs --on ray"):
        RunAccess(with_="invokeai-web --port 9090")
    with pytest.raises(UsageError, match="--images shared needs --on ray"):
        RunAccess(images="shared")
    with pytest.raises(UsageError, match="takes ray or ray:HOST:PORT, not dask"):
        RunAccess(on="dask")
