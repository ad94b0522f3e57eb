"""From what was typed to the results folder that is meant."""

from __future__ import annotations

from pathlib import Path

from sweep.errors import UsageError, did_you_mean

JOURNAL = "journal.sqlite"
NONE_YET = "{root} holds none yet; sweep run makes them."


def known_runs(root: Path) -> list[str]:
    """The names of the results folders under `root`, in the order of the alphabet."""
    return sorted(path.parent.name for path in root.glob(f"*/{JOURNAL}")) if root.is_dir() else []


def results_folder(run: str, root: Path) -> Path:
    """The folder of a run: a path to it, an experiment's name under `root`, or an experiment file that was run.

    Raises UsageError, with the nearest name, where there is none.
    """
    for candidate in (Path(run), root / run, root / Path(run).stem):
        if (candidate / JOURNAL).is_file():
            return candidate
    names = known_runs(root)
    hint = did_you_mean(Path(run).name, names).strip()
    if not hint:
        hint = f"There are: {', '.join(names)}." if names else NONE_YET.format(root=root)
    raise UsageError(f"{run} is no results folder.", hint=hint)
