"""Types that every layer shares."""

from __future__ import annotations

from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool | None  # one value of an axis, as a table and JSON hold it
