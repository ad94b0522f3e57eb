"""Inflating what PNG holds its pixels in: with ISA-L where it is installed, which takes less than half the time."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final, TypeAlias

Inflate: TypeAlias = Callable[[bytes | memoryview, int], tuple[bytes, bool]]
"""At most so many bytes of a zlib stream's content, and whether the stream ended there with the right checksum.

Raises ValueError where the stream is damaged.
"""


def with_zlib(stream: bytes | memoryview, most: int) -> tuple[bytes, bool]:
    """By Python's own library."""
    inflating = zlib.decompressobj()
    try:
        return inflating.decompress(stream, most), inflating.eof
    except zlib.error as error:
        raise ValueError(str(error)) from None


def _with_isal() -> Inflate | None:
    """By Intel's Intelligent Storage Acceleration Library (`pip install isal`); None where it is not installed."""
    try:
        from isal import isal_zlib
    except ImportError:
        return None

    def inflate(stream: bytes | memoryview, most: int) -> tuple[bytes, bool]:
        inflating = isal_zlib.decompressobj()
        try:
            return inflating.decompress(stream, most), inflating.eof
        except isal_zlib.error as error:  # type: ignore[misc]  # its stub takes the class for an instance
            raise ValueError(str(error)) from None

    return inflate


with_isal: Final = _with_isal()
inflate: Final[Inflate] = with_isal or with_zlib
