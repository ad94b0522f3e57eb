"""Turns untrusted responses of any server into values or into errors of ours."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from sweep.errors import (
    OverloadedError,
    ServerError,
    ServerRefusedError,
    ServerUnreachableError,
    SweepError,
    TransientError,
    VariationError,
)
from sweep.text import truncate

SENTENCE_LENGTH = 240
LONGEST_RETRY_AFTER = 3600.0  # seconds; a server that asks for more is asked again after this
TOO_MANY = frozenset({429, 503})
REFUSED = frozenset({401, 403})
REFUSED_CONNECTION = "connection refused"  # nothing listens there
TIMED_OUT = "no answer in time"
BAD_REQUEST = frozenset({400, 413, 415, 422})


def error_of_status(url: str, status: int, headers: Mapping[str, str], body: Any, what: str) -> SweepError:
    """Return the error for an answer with this status; `what` says what was being done ("submitting an item")."""
    said = detail(body)
    tail = f": {said}" if said else ""
    if status in REFUSED:
        is_basic = status == 401 and headers.get("WWW-Authenticate", "").lower().startswith("basic")
        reason = "wants a login" if status == 401 else "does not allow this account to do that"
        return ServerRefusedError(
            f"{url} {reason} ({status} while {what}{tail}).",
            hint="It asks for a user name and a password: set SWEEP_EMAIL (the name) and SWEEP_PASSWORD, or write "
            "both in a credentials file."
            if is_basic
            else "Set SWEEP_TOKEN, or SWEEP_EMAIL and SWEEP_PASSWORD, or give a credentials file.",
        )
    if status in TOO_MANY:
        return OverloadedError(
            f"{url} is overloaded ({status} while {what}).", retry_after=retry_after(headers.get("Retry-After"))
        )
    if status in BAD_REQUEST:
        return VariationError(said or f"{url} refused the request ({status} while {what}).", kind="Refused")
    if status >= 500 or status == 409:
        return TransientError(f"{url} failed ({status} while {what}{tail}).", kind=f"HTTP {status}")
    if 300 <= status < 400:
        return ServerError(
            f"{url} redirects elsewhere.", hint="Use the address that it redirects to; sweep does not follow it."
        )
    return ServerError(f"{url} answered {status} while {what}{tail}.")


def detail(body: Any) -> str:
    """Return what an error's body says, in one line: the `detail` text, or place and message of each problem."""
    found = body.get("detail") if isinstance(body, dict) else None
    if isinstance(found, str):
        return shorten(found)
    if not isinstance(found, list):
        return ""
    sentences = [_describe_problem(entry) for entry in found[:3] if isinstance(entry, dict)]
    more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    return shorten("; ".join(sentences)) + more


def shorten(text: str) -> str:
    """Return the first line of `text`, truncated where it is long."""
    line = next(iter(text.strip().splitlines()), "").strip()
    return truncate(line, SENTENCE_LENGTH)


def _describe_problem(entry: Mapping[str, Any]) -> str:
    loc = entry.get("loc")
    place = [str(part) for part in loc] if isinstance(loc, list) else []
    if "nodes" in place:
        inside = place[place.index("nodes") + 1 :]
        where = ".".join([inside[0], *inside[2:]]) if inside else "graph"
    else:
        where = ".".join(part for part in place if part not in ("body", "batch"))
    context = entry.get("ctx")
    if entry.get("type") == "union_tag_invalid" and isinstance(context, dict):
        return f"{where}: this server has no node type {shorten(str(context.get('tag')))!r}"
    message = str(entry.get("msg", "")).removeprefix("Value error, ")
    return f"{where}: {shorten(message)}" if where else shorten(message)


def retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds to wait by a Retry-After header (a number or an HTTP date); None without a readable one."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment = parsedate_to_datetime(header)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            seconds = (moment - (now or datetime.now(UTC))).total_seconds()
        except (ValueError, TypeError, OverflowError):  # also of an offset that leads out of the calendar
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER) if math.isfinite(seconds) else None


def unreachable_error(url: str, reason: str) -> ServerUnreachableError:
    """Return the error for a server that does not answer at the start."""
    return ServerUnreachableError(
        f"{url} does not answer ({reason}).",
        hint="Is a server running there? sweep run without --server uses the sandbox.",
    )


class NoAnswerError(TransientError):
    """A call that got no whole answer: whether the server did what was asked is not known."""

    def __init__(self, url: str, reason: str, what: str) -> None:
        super().__init__(f"{url} did not answer while {what} ({reason}).", kind="NoAnswer")
        self.reason = reason


def is_refusal(fault: BaseException) -> bool:
    """Return whether nothing listens there at all: the server is gone, not busy."""
    return isinstance(fault, NoAnswerError) and fault.reason == REFUSED_CONNECTION


def explain_failure(fault: BaseException) -> str:
    """Say why a connection failed, in a few words without addresses of sockets or memory."""
    cause = getattr(fault, "os_error", None) or fault
    if isinstance(fault, TimeoutError):
        return TIMED_OUT
    if type(fault).__name__ == "ClientConnectorDNSError":
        return "no such host"
    if "Certificate" in type(fault).__name__:
        return "its TLS certificate is not trusted; --ca-file names a private CA"
    if isinstance(cause, ConnectionRefusedError):
        return REFUSED_CONNECTION
    if isinstance(cause, ConnectionResetError):
        return "connection reset"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return {"ServerDisconnectedError": "it closed the connection"}.get(type(fault).__name__, "connection broken")


DEEPEST_ANSWER = 200
MOST_PARTS = 500_000  # objects and arrays of one answer: each takes some 70 bytes of memory, and 3 on the wire
LARGEST_INTEGER = 2**63


def parse(data: bytes | str) -> Any:
    """Parse JSON. Raises ValueError also where it has more parts, or deeper ones, than any server has to say."""
    text = data if isinstance(data, str) else data.decode(json.detect_encoding(data), "surrogatepass")
    parts = text.count("[") + text.count("{")
    if parts > MOST_PARTS:
        raise ValueError("too many parts")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if parts > DEEPEST_ANSWER and _deeper_than(value, DEEPEST_ANSWER):
        raise ValueError("nested too deeply")
    return value


def _deeper_than(value: Any, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit):
        containers = [each for each in level if isinstance(each, dict | list)]
        level = [inner for each in containers for inner in (each.values() if isinstance(each, dict) else each)]
        if not level:
            return False
    return True


def mapping(value: Any) -> dict[str, Any]:
    """Return `value` where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """Return `value` where it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str | None:
    """Return `value` where it is a string with something in it, else None."""
    return value if isinstance(value, str) and value else None


def as_integer(value: Any) -> int | None:
    """Return `value` where it is an integer of at most 64 bits, else None."""
    is_one = isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST_INTEGER
    return value if is_one else None


def number(value: Any) -> int:
    """Return `value` where it is an integer of at most 64 bits, else 0."""
    return as_integer(value) or 0


def integers(value: Any) -> list[int]:
    """Return the integers in an array, else nothing."""
    return [found for each in sequence(value) if (found := as_integer(each)) is not None]


def bad_answer(url: str, what: str) -> TransientError:
    """Return the error for an answer that says nothing: nobody may conclude from it that something is not there."""
    return TransientError(f"{url} gave an answer that cannot be read while {what}.", kind="BadAnswer")


def timestamp(value: Any) -> datetime | None:
    """Return a server's time, aware; one without a zone means UTC."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter of an offset that leads out of the calendar
        return None
