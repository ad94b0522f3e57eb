"""A run is found by what names it, and never another one in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep.cli.shared_options import find_run
from sweep.errors import UsageError


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
    assert find_run("test-0", root) == root / "test-0"
    assert find_run("results/slow", root) == Path("results/slow")
    assert find_run("slow.yaml", root) == root / "slow"
    assert find_run("named.yaml", root) == root / "given name"


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
    ],
)
def test_a_run_that_does_not_exist_is_not_answered_with_another(root: Path, run: str) -> None:
    with pytest.raises(UsageError, match="There is no run named"):
        find_run(run, root)
