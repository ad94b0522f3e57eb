"""How a prompt is put together from its parts: the prompt itself, a variation of it, and words replaced in it."""

from __future__ import annotations

from typing import Final

SLOT: Final = "{variation}"


def compose(prompt: str, variation: str) -> str:
    """`prompt` with `variation` where it says {variation}, otherwise behind it: "{prompt}, {variation}".

    An empty part leaves no comma behind.
    """
    if SLOT in prompt:
        return prompt.replace(SLOT, variation)
    return ", ".join(part for part in (prompt.rstrip().rstrip(","), variation.strip()) if part.strip())
