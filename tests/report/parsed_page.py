"""A report's page, parsed: its scripts, links and data."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any


class Parsed(HTMLParser):
    """A page as a browser reads it: its elements, and the text of each script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.handle_starttag(f"/{tag}", [])

    def handle_data(self, data: str) -> None:
        if self.texts:
            self.texts[-1] += data

    def data(self) -> dict[str, Any]:
        at = next(n for n, (_, attrs) in enumerate(self.tags) if attrs.get("id") == "sweep-data")
        told: dict[str, Any] = json.loads(self.texts[at])
        return told


def opened(page: Path) -> Parsed:
    return Parsed(page.read_text("utf-8"))
