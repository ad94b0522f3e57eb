"""Names of files near one that is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sweep.errors import nearest

MAX_NAMES: Final = 10_000  # of a folder with more, no name is looked for


def did_you_mean_file(path: Path) -> str:
    """A sentence to append to an error, with a leading space: the name in the folder of `path` most like its own,
    endings left aside. Empty where the folder cannot be read, or holds nothing like it.
    """
    try:
        names = [other.name for other, _ in zip(path.parent.iterdir(), range(MAX_NAMES + 1), strict=False)]
    except OSError:
        return ""
    if len(names) > MAX_NAMES:
        return ""
    alike = sorted(names, key=lambda name: (Path(name).suffix == path.suffix, name))
    by_stem = {Path(name).stem: name for name in alike}  # of one stem, the name with the same ending
    near = nearest(path.stem, by_stem)
    return f" Did you mean {by_stem[near]}?" if near else ""
