"""A workflow as its file holds it: a graph, and what the file says besides."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NoReturn

from sweep.errors import WorkflowError
from sweep.workflow.graph import Address, Graph, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAxis:
    """A list of values that the workflow itself asks to be run over, at every one of `addresses`."""

    name: str  # the batch node's label or id
    addresses: tuple[Address, ...]
    values: tuple[Value, ...]
    group: str = ""  # axes of one group step together; an axis without a group multiplies
    note: str = ""  # what a person should know of it where it is run over


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A workflow as a graph, and what its file says besides.

    `files` are image files that the workflow names by path, for fields that then hold nothing yet. `notes` are
    sentences about what was completed, translated or left out.
    """

    graph: Graph
    kind: Literal["api", "editor", "portable"]
    name: str = ""
    family: str = ""  # the name of its dialect; empty for the portable form, which any family can translate
    document: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)  # what is yet to be translated
    batch_axes: tuple[BatchAxis, ...] = ()
    exposed: tuple[Address, ...] = ()  # fields its author put on the form, in that order
    labels: Mapping[Address, str] = field(default_factory=dict)  # what its author called fields
    files: Mapping[Address, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()  # those it can be translated for; empty where it names real node types already
    lacking: str = ""  # the main model it names, where that is known to be missing on the server
    translate: Callable[[str], Workflow] | None = field(
        default=None, compare=False, repr=False
    )  # of the portable form: to the nodes of a base

    def for_base(self, base: str) -> Workflow:
        """Return the workflow with the nodes for models of `base`; itself where the file names real node types already,
        or where the base is not known ("").

        Raises WorkflowError where the portable form has no translation for that base.
        """
        return self.translate(base) if self.translate is not None and base else self


MAX_WORKFLOW_DEPTH: Final = 100  # of lists and objects in each other; the deepest real workflow has about ten


def parse_object(content: bytes | str, shown: str) -> dict[str, Any]:
    """Return the JSON object in a text, which errors call `shown`. Raises WorkflowError for anything else."""
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        document = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        empty = not content.strip()
        why = f"{shown} is empty." if empty else f"{shown} is not JSON: {error.msg} in {where}."
        raise WorkflowError(why) from error
    except UnicodeDecodeError as error:
        raise WorkflowError(f"{shown} is not a text file.") from error
    except RecursionError as error:
        raise WorkflowError(f"{shown} is nested too deep to be a workflow.") from error
    except ValueError as error:
        raise WorkflowError(f"{shown} is not JSON: {error}.") from error
    if not isinstance(document, dict):
        raise WorkflowError(f"{shown} holds no workflow: it is {_kind(document)}, not an object with nodes and edges.")
    if _deeper_than(document, MAX_WORKFLOW_DEPTH):
        raise WorkflowError(f"{shown} is nested too deep to be a workflow.")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _kind(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _deeper_than(value: Any, limit: int) -> bool:
    layer: list[Any] = [value]
    for _ in range(limit):
        layer = [child for parent in layer for child in _children(parent)]
        if not layer:
            return False
    return True


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
