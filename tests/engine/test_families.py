"""Engine and record know servers by their seam alone: no word of one family stands in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sweep

FAMILY = re.compile(r"invoke|comfy|session queue|socket\.?io", re.IGNORECASE)


@pytest.mark.parametrize("package", ["engine", "record", "study", "report"])
def test_package_names_no_server_family(package: str) -> None:
    folder = Path(sweep.__file__).parent / package
    lines = {
        f"{path.relative_to(folder)}:{number}": line
        for path in sorted(folder.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    }
    assert not {place: line for place, line in lines.items() if FAMILY.search(line)}
