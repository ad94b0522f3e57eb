"""The version, in one place: the build, `--version` and the record read it here."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
