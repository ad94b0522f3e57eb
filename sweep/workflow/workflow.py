"""Workflow: a graph and what its file says besides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

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
