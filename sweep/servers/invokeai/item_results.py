"""Reads from InvokeAI's queue items and sessions how far they are, what they rendered and why they failed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

from sweep.errors import AttemptError, TransientError, VariationError
from sweep.servers.base import ItemEnded, ServerImage
from sweep.servers.tracker import ItemState, cancellation_error
from sweep.servers.untrusted_json import mapping, number, sequence, shorten, text, timestamp

OUT_OF_MEMORY = frozenset({"OutOfMemoryError", "MemoryError"})
HINTS = tuple(
    (re.compile(pattern, re.IGNORECASE), hint)
    for pattern, hint in (
        (r"outofmemory|out of memory|MemoryError", "Render smaller images, or a smaller model."),
        (r"Image(Record|File)NotFound", "An input image is gone from the server: it is uploaded again."),
        (r"UnknownModel|model .*not found|ModelNotFound", "Install the model on this server, or name another one."),
        (r"\bnan\b|half precision|fp16|float16", "Set the VAE precision to fp32 on the server or in the workflow."),
    )
)
IMAGE_GONE = frozenset({"ImageRecordNotFoundException", "ImageFileNotFoundException"})


def read_item_state(summary: Mapping[str, Any]) -> ItemState:
    """Read the state from an item, an item's summary or a status event."""
    return ItemState(
        status=text(summary.get("status")) or "unknown",
        batch_id=text(summary.get("batch_id")),
        queued_at=timestamp(summary.get("created_at")),
        started_at=timestamp(summary.get("started_at")),
        finished_at=timestamp(summary.get("completed_at")),
    )


def result_images(result: Any) -> Iterator[tuple[str, int | None, int | None]]:
    """Yield name, width and height of every image in one node's output, a collection's too."""
    output = mapping(result)
    name = text(mapping(output.get("image")).get("image_name"))
    if name:
        yield name, number(output.get("width")) or None, number(output.get("height")) or None
    for entry in sequence(output.get("collection")):
        inner = text(mapping(entry).get("image_name"))
        if inner:
            yield inner, None, None


def session_images(session: Mapping[str, Any], outputs: Sequence[str]) -> tuple[ServerImage, ...]:
    """Return every image of the output nodes in a finished (or failed) session, by output node and iteration.

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


def intermediate_images(session: Mapping[str, Any]) -> Iterator[str]:
    results, source = mapping(session.get("results")), mapping(session.get("prepared_source_mapping"))
    nodes = mapping(mapping(session.get("graph")).get("nodes"))
    for prepared, output in results.items():
        node = mapping(nodes.get(str(source.get(prepared))))
        if node.get("is_intermediate"):
            yield from (name for name, _, _ in result_images(output))


def _shown(nodes: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name, node in nodes.items() if not mapping(node).get("is_intermediate"))


def _path(value: Any) -> tuple[int, ...]:
    return tuple(number(part) for part in sequence(value))


def failed_node(session: Mapping[str, Any]) -> str | None:
    source = mapping(session.get("prepared_source_mapping"))
    for prepared in mapping(session.get("errors")):
        return str(source.get(prepared, prepared))
    return None


def read_end(item: Mapping[str, Any], outputs: Sequence[str], asked: bool) -> ItemEnded:
    """Read the end of a terminal item; `asked` says that we asked for its cancellation."""
    session = mapping(item.get("session"))
    if item.get("status") == "completed" and not isinstance(session.get("results"), dict):
        raise TransientError("the server does not say what the item rendered", kind="BadAnswer")
    status: Literal["completed", "failed", "canceled"] = "completed"
    error: AttemptError | None = None
    if item.get("status") == "failed":
        status, error = "failed", _failure(item, session)
    elif item.get("status") != "completed":
        status, error = "canceled", cancellation_error(asked)
    return ItemEnded(
        status=status,
        images=session_images(session, outputs),
        error=error,
        failed_node=failed_node(session) if status == "failed" else None,
        queued_at=timestamp(item.get("created_at")),
        started_at=timestamp(item.get("started_at")),
        finished_at=timestamp(item.get("completed_at")),
    )


def _failure(item: Mapping[str, Any], session: Mapping[str, Any]) -> AttemptError:
    kind, message = text(item.get("error_type")), text(item.get("error_message"))
    if kind is None and message is None:
        kind, message = _last_line(text(item.get("error")), mapping(session.get("errors")).values())
    kind = shorten(kind) if kind else None
    sentence = shorten(message or kind or "the server gave no reason")
    if hint := next((hint for pattern, hint in HINTS if pattern.search(f"{kind}: {sentence}")), ""):
        sentence = f"{sentence.rstrip('.')}. {hint}"
    if kind in OUT_OF_MEMORY:
        return TransientError(sentence, kind=kind, most_attempts=2)
    if kind in IMAGE_GONE:
        return TransientError(sentence, kind=kind)
    return VariationError(sentence, kind=kind)


def _last_line(traceback: str | None, errors: Collection[Any]) -> tuple[str | None, str | None]:
    """Split the last line of a traceback, `Type: message`: before 4.2.9 an item tells nothing else."""
    told = traceback or next((error for error in errors if isinstance(error, str)), "")
    kind, colon, message = (told.strip().splitlines() or [""])[-1].partition(": ")
    return (kind.rpartition(".")[2], message) if colon and " " not in kind else (None, told.strip() or None)
