"""What the YAML parser says of a slip, in words for people."""

from __future__ import annotations

import re
from typing import Any, Final

from ruamel.yaml.error import MarkedYAMLError

from sweep.errors import Problem

_WORDS: Final = (  # what the parser says, and what that comes of
    (
        r"mapping values are not allowed",
        "a second colon in the line, or a wrong indent; text with ': ' in it needs quotes",
    ),
    (r"expected the node content, but found '<stream end>'", "a value or a closing bracket is missing at the end"),
    (r"found character '(.)' that cannot start any token", r"text cannot begin with \1 unless it stands in quotes"),
    (r"found unexpected end of stream", "this quote is never closed"),
    (r"could not find expected ':'", "a key without its colon, or text that goes on too far left"),
    (r"expected <block end>, but found", "the indentation fits nothing above it"),
    (r"expected alphabetic or numeric character", "a name is missing after & or *; text that begins so needs quotes"),
    (r"expected ',' or '([]}])', but got '<stream end>'", r"this bracket is never closed; \1 is missing"),
)
_TOLD_LATE: Final = ("found unexpected end of stream", "'<stream end>'", "could not find expected ':'")


def syntax_problem(error: MarkedYAMLError, text: str) -> Problem:
    """The fault with its place; of what is found only further down, the place where it begins."""
    said = " ".join(str(error.problem or error.context or "is not YAML").split())
    mark: Any = error.problem_mark or error.context_mark
    if error.context_mark is not None and any(words in said for words in _TOLD_LATE):
        mark = error.context_mark
    if mark is None:
        return Problem(message=said)
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: mark.column + 1]:
        said = "a tab stands here; YAML is indented with spaces"
    return Problem(message=_in_our_words(said), line=mark.line + 1, column=mark.column + 1)


def _in_our_words(said: str) -> str:
    for pattern, words in _WORDS:
        found = re.search(pattern, said)
        if found:
            return found.expand(words)
    return said
