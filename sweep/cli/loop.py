"""Which event loop a run has: uvloop where it is installed, which takes a tenth off what a picture costs."""

from __future__ import annotations

from importlib.util import find_spec


def quickest() -> dict[str, bool]:
    """What `anyio.run` is to be given as `backend_options`."""
    return {"use_uvloop": find_spec("uvloop") is not None}
