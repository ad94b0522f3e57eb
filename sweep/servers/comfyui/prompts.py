"""Reads what a ComfyUI says of a prompt: why it is refused, how far it is, how it ended, which files it saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

from sweep.errors import AttemptError, TransientError, VariationError
from sweep.servers.base import ItemEnded, MissingModelError, ServerImage
from sweep.servers.responses import mapping, sequence, shorten, text
from sweep.servers.tracker import cancellation_error
from sweep.workflow import ModelRef

SERVER_FOLDER: Final = "sweep"  # below the server's output and input folders
PREFIX_FIELD: Final = "filename_prefix"
_PLACES: Final = frozenset({"output", "temp", "input"})
_MISSING: Final = "required_input_missing"
_OUT_OF_MEMORY: Final = "OutOfMemoryError"


def file_prefix(batch_id: str, output: int) -> str:
    """Return the prefix of the files of an item's output: folders of 256 keep each short, as saving lists them."""
    return f"{SERVER_FOLDER}/{batch_id[:2]}/{batch_id}-{output}"


def image_name(file: Mapping[str, Any]) -> str | None:
    """Return the name of a saved file as sweep keeps it: place, folder and file name; None for something else."""
    name, place = text(file.get("filename")), file.get("type")
    folder = file.get("subfolder") or ""
    return f"{place}/{folder}/{name}" if name and place in _PLACES and isinstance(folder, str) else None


def image_query(name: str) -> dict[str, str]:
    """Return the query that asks for a file. Raises VariationError for a name that this server cannot have given."""
    place, _, rest = name.partition("/")
    folder, _, file = rest.rpartition("/")
    if place not in _PLACES or not file or ".." in name.split("/") or not name.isprintable():
        raise VariationError("the server named an image in a way that cannot be a name", kind="BadName")
    return {"filename": file, "subfolder": folder, "type": place}


def read_refusal(answer: Mapping[str, Any], models: Mapping[tuple[str, str], ModelRef]) -> AttemptError | None:
    """Return why a prompt was refused; None where all that is missing are the file names that a check leaves out.

    Args:
        answer: the body of the refusal.
        models: the models it names, by node and input: one that is not installed may be elsewhere.
    """
    problems = list(_problems(answer))
    for node, kind, field, sentence in problems:
        if kind == "value_not_in_list" and (node, field) in models:
            return MissingModelError(sentence, ref=models[node, field])
    if problems:
        sentences = list(dict.fromkeys(sentence for *_, sentence in problems))
        more = f" (and {len(sentences) - 3} more)" if len(sentences) > 3 else ""
        return VariationError(shorten("; ".join(sentences[:3])) + more, kind="Refused")
    if mapping(answer.get("node_errors")):
        return None
    error = mapping(answer.get("error"))
    said = [text(error.get("message")), text(error.get("details"))]
    return VariationError(shorten(": ".join(filter(None, said)) or "the server refused it"), kind="Refused")


def _problems(answer: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield (node, kind, input, sentence) of each problem but file names that were left out."""
    for node, about in mapping(answer.get("node_errors")).items():
        for error in map(mapping, sequence(mapping(about).get("errors"))):
            info = mapping(error.get("extra_info"))
            kind, field = str(error.get("type")), str(info.get("input_name") or "")
            if kind == _MISSING and field == PREFIX_FIELD:
                continue
            place = f"{node}.{field}" if field else str(node)
            said = ": ".join(filter(None, (text(error.get("message")), text(error.get("details")))))
            yield str(node), kind, field, f"{place}: {shorten(said)}"


def saved_files(entry: Mapping[str, Any], outputs: Sequence[str]) -> tuple[ServerImage, ...]:
    """Return the images of the outputs in a history entry, in the order of the outputs; of all nodes without any."""
    told = mapping(entry.get("outputs"))
    found: list[ServerImage] = []
    for node in outputs or told:
        files = [image_name(mapping(file)) for file in sequence(mapping(told.get(node)).get("images"))]
        names = [name for name in files if name is not None]
        found += [ServerImage(name=name, node=node, iteration=n) for n, name in enumerate(names)]
    return tuple(found)


def history_status(entry: Mapping[str, Any]) -> Literal["completed", "failed", "canceled"]:
    """Return how a prompt ended. The status of an interruption is that of a failure: its messages tell it apart."""
    status = mapping(entry.get("status"))
    if status.get("status_str") == "success":
        return "completed"
    return "canceled" if "execution_interrupted" in dict(_messages(entry)) else "failed"


def _messages(entry: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for message in sequence(mapping(entry.get("status")).get("messages")):
        if isinstance(message, list) and len(message) == 2:
            yield str(message[0]), mapping(message[1])


def ended_by_history(entry: Mapping[str, Any], outputs: Sequence[str], asked: bool) -> ItemEnded:
    """Read how a prompt ended from its history entry; `asked` says that we requested its cancellation."""
    status, messages = history_status(entry), dict(_messages(entry))
    failure = messages.get("execution_error", {})
    error: AttemptError | None = None
    if status == "failed":
        error = _failure(failure)
    elif status == "canceled":
        error = cancellation_error(asked)
    ended = next((messages[key] for key in _ENDS if key in messages), {})
    queued = mapping(sequence(entry.get("prompt"))[3:4][0] if len(sequence(entry.get("prompt"))) > 3 else {})
    times = [_moment(queued.get("create_time")), _moment(messages.get("execution_start", {}).get("timestamp"))]
    times.append(_moment(ended.get("timestamp")))
    if None in times:
        times = [None, None, None]
    return ItemEnded(
        status=status,
        images=saved_files(entry, outputs),
        error=error,
        failed_node=text(failure.get("node_id")) if status == "failed" else None,
        queued_at=times[0],
        started_at=times[1],
        finished_at=times[2],
    )


_ENDS: Final = ("execution_success", "execution_error", "execution_interrupted")


def _failure(message: Mapping[str, Any]) -> AttemptError:
    kind = (text(message.get("exception_type")) or "Error").rpartition(".")[2]
    sentence = shorten(text(message.get("exception_message")) or kind)
    return TransientError(sentence, kind=kind) if kind == _OUT_OF_MEMORY else VariationError(sentence, kind=kind)


def _moment(milliseconds: Any) -> datetime | None:
    if not isinstance(milliseconds, int | float) or isinstance(milliseconds, bool):
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
