"""The HTML page: a Jinja2 template, escaped throughout, with a content security policy that names what may run."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from itertools import islice
from typing import IO, Any, Final

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from sweep.report.data import JsonObject

_THUMBS_A_CHUNK = 60
_PLAIN_JSON: Final = 4_000_000  # characters, parsed in 40 ms; longer data is packed, which the page has to wait for
_CHUNKS_BEFORE_SCRIPT = 5  # what the page opens with is there when the script begins


@cache
def asset(name: str) -> str:
    """A built file of the front end, as text."""
    return resources.files("sweep.report").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(asset("report.html.j2"))


def policy(*, connect: str = "'none'", images: str = "'self' data: blob: file:") -> str:
    """The content security policy: our scripts and our stylesheet by their hashes, images, and nothing else."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(asset('explorer.js'))}' '{_hash(asset('charts.js'))}'",
            f"style-src '{_hash(asset('explorer.css'))}'",
            f"img-src {images}",
            f"connect-src {connect}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def render_page(
    data: JsonObject, facts: Mapping[str, Any], thumbs: Mapping[str, str] | None = None, *, csp: str | None = None
) -> Iterator[str]:
    """The page in parts. `facts` are the values of its fixed text (see `facts.page_facts`), `thumbs` embedded ones."""
    text, is_packed = written(data)
    chunks = _chunks(thumbs or {})
    yield from _template().generate(
        **facts,
        data=text if is_packed else Markup(_harmless(text)),  # noqa: S704  every < is written as an escape
        packed=is_packed,
        script=Markup(asset("explorer.js")),  # noqa: S704  our own file
        charts=Markup(asset("charts.js")),  # noqa: S704  our own file
        style=Markup(asset("explorer.css")),  # noqa: S704  our own file
        csp=policy() if csp is None else csp,
        first_chunks=islice(chunks, _CHUNKS_BEFORE_SCRIPT),
        chunks=chunks,
    )


def written(data: JsonObject) -> tuple[str, bool]:
    """The payload as text for the page, and whether it is packed (gzip in base64)."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if len(text) <= _PLAIN_JSON:
        return text, False
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode(), True


def write(target: IO[str], parts: Iterable[str]) -> None:
    """Writes a page part by part: with embedded images it is too large to hold twice."""
    for part in parts:
        target.write(part)


def _chunks(thumbs: Mapping[str, str]) -> Iterator[Markup]:
    names = list(thumbs)
    for at in range(0, len(names), _THUMBS_A_CHUNK):
        part = {name: thumbs[name] for name in names[at : at + _THUMBS_A_CHUNK]}
        yield Markup(_harmless(json.dumps(part)))  # noqa: S704  every < is written as an escape


def _harmless(text: str) -> str:
    """JSON that no HTML parser can mistake for markup, as Jinja2's tojson does it."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").replace("'", "\\u0027")
