"""The HTML page: an escaped Jinja2 template and a content security policy that allows only our own scripts.

The page must open from a file without a server, so everything is inside it; the policy names our scripts by hash so
that nothing in a prompt, a file name or a server's error message can ever run.
"""

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
def read_asset(name: str) -> str:
    """Read a built file of the front end as text."""
    return resources.files("sweep.report").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _load_template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(read_asset("report.html.j2"))


def build_policy(*, connect: str = "'none'", images: str = "'self' data: blob: file:") -> str:
    """Build the content security policy: our scripts and stylesheet by their hashes, images, and nothing else."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash_source(read_asset('explorer.js'))}' '{_hash_source(read_asset('charts.js'))}'",
            f"style-src '{_hash_source(read_asset('explorer.css'))}'",
            f"img-src {images}",
            f"connect-src {connect}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash_source(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def render_page(
    payload: JsonObject, facts: Mapping[str, Any], thumbs: Mapping[str, str] | None = None, *, csp: str | None = None
) -> Iterator[str]:
    """Render the page in parts.

    Args:
        payload: What the page's script reads.
        facts: Variables of the template's fixed text, see `describe_page`.
        thumbs: Thumbnails to embed, as base64 by id.
        csp: Content security policy, by default that of a page opened from a file.
    """
    text, is_packed = encode_payload(payload)
    chunks = _split_thumbs(thumbs or {})
    yield from _load_template().generate(
        **facts,
        payload=text if is_packed else Markup(_escape_json(text)),  # noqa: S704  every < is written as an escape
        packed=is_packed,
        script=Markup(read_asset("explorer.js")),  # noqa: S704  our own file
        charts=Markup(read_asset("charts.js")),  # noqa: S704  our own file
        style=Markup(read_asset("explorer.css")),  # noqa: S704  our own file
        csp=build_policy() if csp is None else csp,
        first_chunks=islice(chunks, _CHUNKS_BEFORE_SCRIPT),
        chunks=chunks,
    )


def encode_payload(payload: JsonObject) -> tuple[str, bool]:
    """Encode the payload as text for the page, and say whether it is packed (gzip in base64)."""
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if len(text) <= _PLAIN_JSON:
        return text, False
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode(), True


def write_parts(target: IO[str], parts: Iterable[str]) -> None:
    """Write a page part by part: with embedded images it is too large to hold twice."""
    for part in parts:
        target.write(part)


def _split_thumbs(thumbs: Mapping[str, str]) -> Iterator[Markup]:
    names = list(thumbs)
    for at in range(0, len(names), _THUMBS_A_CHUNK):
        part = {name: thumbs[name] for name in names[at : at + _THUMBS_A_CHUNK]}
        yield Markup(_escape_json(json.dumps(part)))  # noqa: S704  every < is written as an escape


def _escape_json(text: str) -> str:
    """Escape JSON so that no HTML parser can mistake it for markup, as Jinja2's tojson does."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").replace("'", "\\u0027")
