"""Untrusted responses -> values or our errors."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from sweep.errors import (
    AttemptError,
    ItemLostError,
    OverloadedError,
    ServerError,
    ServerRefusedError,
    ServerUnreachableError,
    SweepError,
    TransientError,
    VariationError,
)
from sweep.servers.base import ItemEnded, ServerImage
from sweep.text import truncate
from sweep.workflow import Model

SENTENCE_LENGTH = 240
LONGEST_RETRY_AFTER = 3600.0  # seconds; a server that asks for more is asked again after this
TOO_MANY = frozenset({429, 503})
REFUSED = frozenset({401, 403})
REFUSED_CONNECTION = "connection refused"  # nothing listens there
TIMED_OUT = "no answer in time"
BAD_REQUEST = frozenset({400, 413, 415, 422})


def of_status(url: str, status: int, headers: Mapping[str, str], body: Any, what: str) -> SweepError:
    """The error that an answer with this status is; `what` says what was being done ("submitting an item")."""
    said = detail(body)
    tail = f": {said}" if said else ""
    if status in REFUSED:
        reason = "wants a login" if status == 401 else "does not allow this account to do that"
        return ServerRefusedError(
            f"{url} {reason} ({status} while {what}{tail}).",
            hint="Set SWEEP_TOKEN, or SWEEP_EMAIL and SWEEP_PASSWORD, or give a credentials file.",
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
            f"{url} redirects elsewhere.", hint="Give the address it redirects to; sweep does not follow."
        )
    return ServerError(f"{url} answered {status} while {what}{tail}.")


def detail(body: Any) -> str:
    """What an error's body says, in one line: the `detail` text, or place and message of each validation error."""
    found = body.get("detail") if isinstance(body, dict) else None
    if isinstance(found, str):
        return shorten(found)
    if not isinstance(found, list):
        return ""
    sentences = [_fault(entry) for entry in found[:3] if isinstance(entry, dict)]
    more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    return shorten("; ".join(sentences)) + more


def shorten(text: str) -> str:
    """The first line of `text`, cut where it is long."""
    line = next(iter(text.strip().splitlines()), "").strip()
    return truncate(line, SENTENCE_LENGTH)


def _fault(entry: Mapping[str, Any]) -> str:
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
    """Seconds to wait by a Retry-After header (a number or an HTTP date); None where there is none to read."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment = parsedate_to_datetime(header)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (moment - (now or datetime.now(UTC))).total_seconds()
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER) if math.isfinite(seconds) else None


def unreachable(url: str, reason: str) -> ServerUnreachableError:
    """Nobody answers at `url` at the start."""
    return ServerUnreachableError(
        f"{url} does not answer ({reason}).",
        hint="Is InvokeAI running there? sweep run without --server uses the sandbox.",
    )


class NoAnswerError(TransientError):
    """A call that got no whole answer: whether the server did what was asked is not known."""

    def __init__(self, url: str, reason: str, what: str) -> None:
        super().__init__(f"{url} did not answer while {what} ({reason}).", kind="NoAnswer")
        self.reason = reason


def is_refusal(fault: BaseException) -> bool:
    """Whether nothing listens there at all: the server is gone, not busy."""
    return isinstance(fault, NoAnswerError) and fault.reason == REFUSED_CONNECTION


def reason(fault: BaseException) -> str:
    """Why a connection failed, in a few words without addresses of sockets or memory."""
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
MODEL_PARTS = (("name", "model_name"), ("base", "base_model"), ("type", "model_type"))
ENDED_STATES = frozenset({"completed", "failed", "canceled"})
OUT_OF_MEMORY = frozenset({"OutOfMemoryError", "MemoryError"})
IMAGE_GONE = frozenset({"ImageRecordNotFoundException", "ImageFileNotFoundException"})


def parse(data: bytes) -> Any:
    """JSON, or ValueError also where it is nested deeper than anything a server has to say."""
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if data.count(b"[") + data.count(b"{") > DEEPEST_ANSWER and _deeper_than(value, DEEPEST_ANSWER):
        raise ValueError("nested too deeply")
    return value


def _deeper_than(value: Any, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def mapping(value: Any) -> dict[str, Any]:
    """`value` where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """`value` where it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str | None:
    """`value` where it is a string with something in it."""
    return value if isinstance(value, str) and value else None


def number(value: Any) -> int:
    """`value` where it is an integer, else 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def timestamp(value: Any) -> datetime | None:
    """A server's time, aware. They are written without a zone and mean UTC."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def read_models(answer: Any) -> tuple[Model, ...]:
    """The models of a list in either form, in its order, less those that lack a name, base or type. Before release 4
    models had no keys: base, type and name make one.
    """
    found = []
    for entry in map(mapping, sequence(mapping(answer).get("models"))):
        name, base, kind = (text(entry.get(new)) or text(entry.get(old)) for new, old in MODEL_PARTS)
        if name and base and kind:
            key = text(entry.get("key")) or f"{base}/{kind}/{name}"
            found.append(Model(key=key, hash=str(entry.get("hash") or ""), name=name, base=base, type=kind))
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemState:
    """How far an item is, as a status answer or event tells it."""

    status: str
    batch_id: str | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


def read_item_state(summary: Mapping[str, Any]) -> ItemState:
    """The state an item, an item's summary or a status event tells."""
    return ItemState(
        status=str(summary.get("status")),
        batch_id=text(summary.get("batch_id")),
        queued_at=timestamp(summary.get("created_at")),
        started_at=timestamp(summary.get("started_at")),
        finished_at=timestamp(summary.get("completed_at")),
    )


def result_images(result: Any) -> Iterator[tuple[str, int | None, int | None]]:
    """Name, width and height of every image in one node's output, a collection's too."""
    output = mapping(result)
    name = text(mapping(output.get("image")).get("image_name"))
    if name:
        yield name, number(output.get("width")) or None, number(output.get("height")) or None
    for entry in sequence(output.get("collection")):
        inner = text(mapping(entry).get("image_name"))
        if inner:
            yield inner, None, None


def session_images(session: Mapping[str, Any], outputs: Sequence[str]) -> tuple[ServerImage, ...]:
    """Every image of the output nodes in a finished (or failed) session, ordered by output node and iteration.

    Iterations are ordered by `prepared_iteration_paths`; servers that lack it gave results in the order of execution.
    A node that only passes on images (a collection) brings none that another output has already brought. Where
    `outputs` is empty, every node that is not intermediate counts.
    """
    results, source = mapping(session.get("results")), mapping(session.get("prepared_source_mapping"))
    paths = mapping(session.get("prepared_iteration_paths"))
    wanted = outputs or _shown(mapping(mapping(session.get("graph")).get("nodes")))
    by_node: dict[str, list[str]] = {node: [] for node in wanted}
    for prepared in results:
        by_node.get(str(source.get(prepared)), []).append(prepared)
    images: list[ServerImage] = []
    passed_on: list[ServerImage] = []
    for node, prepared_ids in by_node.items():
        ordered = sorted(prepared_ids, key=lambda p: _path(paths.get(p)))
        of_node = [(p, fields) for p in ordered for fields in result_images(results[p])]
        for iteration, (prepared, (name, width, height)) in enumerate(of_node):
            image = ServerImage(name=name, node=node, iteration=iteration, width=width, height=height)
            (images if "image" in mapping(results[prepared]) else passed_on).append(image)
    own = {image.name for image in images}
    images += [image for image in passed_on if image.name not in own]
    place = {node: n for n, node in enumerate(wanted)}
    return tuple(sorted(images, key=lambda image: (place[image.node], image.iteration)))


def _shown(nodes: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name, node in nodes.items() if not mapping(node).get("is_intermediate"))


def _path(value: Any) -> tuple[int, ...]:
    return tuple(number(part) for part in sequence(value))


def failed_node(session: Mapping[str, Any]) -> str | None:
    """The submitted node that failed, by the session's errors."""
    source = mapping(session.get("prepared_source_mapping"))
    for prepared in mapping(session.get("errors")):
        return str(source.get(prepared, prepared))
    return None


def ended(item: Mapping[str, Any], outputs: Sequence[str], asked: bool) -> ItemEnded:
    """What became of a terminal item; `asked` says that we asked for its cancellation."""
    session = mapping(item.get("session"))
    status: Literal["completed", "failed", "canceled"] = "completed"
    error: AttemptError | None = None
    if item.get("status") == "failed":
        status, error = "failed", _failure(item, session)
    elif item.get("status") != "completed":
        status, error = "canceled", _cancellation(asked)
    return ItemEnded(
        status=status,
        images=session_images(session, outputs),
        error=error,
        failed_node=failed_node(session) if status == "failed" else None,
        queued_at=timestamp(item.get("created_at")),
        started_at=timestamp(item.get("started_at")),
        finished_at=timestamp(item.get("completed_at")),
    )


def _cancellation(asked: bool) -> AttemptError:
    if asked:
        return TransientError("cancelled by sweep", kind="Cancelled")
    return ItemLostError("the server cancelled the item; nobody here asked for it (a restart does that)")


def _failure(item: Mapping[str, Any], session: Mapping[str, Any]) -> AttemptError:
    kind, message = text(item.get("error_type")), text(item.get("error_message"))
    if kind is None and message is None:
        kind, message = _last_line(text(item.get("error")), mapping(session.get("errors")).values())
    sentence = shorten(message or kind or "the server gave no reason")
    if kind in OUT_OF_MEMORY or kind in IMAGE_GONE:
        return TransientError(sentence, kind=kind)
    return VariationError(sentence, kind=kind)


def _last_line(traceback: str | None, errors: Collection[Any]) -> tuple[str | None, str | None]:
    """Before 4.2.9 an item has only a traceback; its last line is `Type: message`."""
    told = traceback or next((error for error in errors if isinstance(error, str)), "")
    kind, colon, message = (told.strip().splitlines() or [""])[-1].partition(": ")
    return (kind.rpartition(".")[2], message) if colon and " " not in kind else (None, told.strip() or None)
