"""How long a run will take and how much disk it will fill, from numbers of earlier renders."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median
from typing import Final

BYTES_PER_PIXEL: Final = 1.6  # RGB photographs as PNG take 1.3 to 2; used where no earlier picture tells
FILE_OVERHEAD: Final = 13_000  # bytes of graph and metadata a server writes into each PNG
_OUTLIER: Final = 3.0  # times the median: the first render of a run loads the model, and is not typical


def seconds_left(points: int, earlier: Sequence[float], slots: int = 1) -> float | None:
    """Seconds that `points` variations take on `slots` generation devices; None where nothing was rendered before.

    The mean of the `earlier` seconds a render, each counted as three times their median at most.
    """
    typical = [seconds for seconds in earlier if seconds >= 0]
    if points <= 0:
        return 0.0
    if not typical:
        return None
    bound = _OUTLIER * median(typical)
    return points * fmean(min(seconds, bound) for seconds in typical) / max(slots, 1)


def disk_bytes(points: int, width: int, height: int, earlier: Sequence[tuple[int, int]] = ()) -> int:
    """Bytes that `points` pictures of this size take as PNG.

    `earlier` are (pixels, bytes of the file) of pictures already rendered: their ratio counts, if there are any.
    """
    pixels = sum(max(area, 0) for area, _ in earlier)
    content = sum(max(size - FILE_OVERHEAD, 0) for _, size in earlier)
    rate = content / pixels if pixels else BYTES_PER_PIXEL
    return round(max(points, 0) * (width * height * rate + FILE_OVERHEAD))
