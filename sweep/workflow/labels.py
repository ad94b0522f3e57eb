"""What nodes are called: by the id a person wrote, or where an editor made it up, by what a person sees of them.

A node answers to its id, to its label, and to its type; where several share a label or type, a number says which of
them, in the order of the file: `Random Seed.low`, `controlnet_2.control_weight`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from sweep.errors import WorkflowError, did_you_mean
from sweep.workflow.graph import Address, Graph, Node

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_MADE_UP = re.compile(rf"{_UUID}|(?P<word>\w+):[\w-]{{10}}")  # of the editor; of the other pages, as noise:Hx9_aZ-k3Q
_NUMBERED = re.compile(r"(.+)_([1-9]\d*)")
_MOST = 6  # candidates that a sentence lists


class Names:
    """The names of a graph's nodes, both ways."""

    def __init__(self, graph: Graph) -> None:
        self._nodes = graph.nodes
        self._labels = _indexed((label(node).casefold(), node.id) for node in graph.nodes.values())
        self._words = _indexed((_word(node.id), node.id) for node in graph.nodes.values())
        self._types = _indexed((node.type, node.id) for node in graph.nodes.values())

    def called(self, node: str) -> str:
        """Return a name of a node by which `node` finds it: its id, unless an editor made that up."""
        if _MADE_UP.fullmatch(node) is None or node not in self._nodes:
            return node
        for word in filter(None, (label(self._nodes[node]), _word(node), self._nodes[node].type)):
            if self._found(word) == [node]:
                return word
            alike = self._alike(word)
            if node in alike and self._found(name := f"{word}_{alike.index(node) + 1}") == [node]:
                return name
        return node

    def node(self, name: str) -> str:
        """Return the id of the node a person calls `name`. Raises WorkflowError where there is none, or several."""
        found = self._found(name)
        if len(found) == 1:
            return found[0]
        if not found:
            near = did_you_mean(name, [*map(self.called, self._nodes), *self._labels, *self._types])
            raise WorkflowError(f"the workflow has no node {name!r}.{near}")
        listed = ", ".join(f"{name}_{number}" for number in range(1, min(len(found), _MOST) + 1))
        more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
        raise WorkflowError(
            f"{len(found)} nodes are called {name}: {listed}{more}.", hint="sweep inspect shows which is which."
        )

    def _found(self, name: str) -> list[str]:
        if name in self._nodes:
            return [name]
        if alike := self._alike(name):
            return alike
        numbered = _NUMBERED.fullmatch(name)
        alike = self._alike(numbered[1]) if numbered else []
        return [alike[int(numbered[2]) - 1]] if numbered and int(numbered[2]) <= len(alike) else []

    def _alike(self, word: str) -> list[str]:
        """Return the nodes of that label; where none has it, of that word before a made-up part; else of that type."""
        return self._labels.get(_one_line(word).casefold()) or self._words.get(word) or self._types.get(word) or []


def label(node: Node) -> str:
    """Return the name its author gave the node, on one line; empty without one."""
    return _one_line(node.label)


def find_address(graph: Graph, text: str) -> Address:
    """Return the field that a person names. Raises WorkflowError where no node is called so, or several are."""
    address = Address.parse(text)
    return Address(Names(graph).node(address.node), address.field)


def readable(graph: Graph, text: str) -> str:
    """Return a text with each made-up id in it replaced by what its node is called."""
    names = Names(graph)
    for node in filter(made_up, graph.nodes):
        if node in text:
            text = text.replace(node, names.called(node))
    return text


def named(node: Node) -> str:
    """Return a node as a person knows it: by label and type, and by an id that a person made up."""
    if made_up(node.id):
        return f"{label(node)} ({node.type})" if label(node) else node.id
    return f"{label(node)} ({node.type}, {node.id})" if label(node) else f"{node.id} ({node.type})"


def made_up(node: str) -> bool:
    """Whether an editor made up this id, which says nothing to anybody."""
    return _MADE_UP.fullmatch(node) is not None


def _word(node: str) -> str:
    found = _MADE_UP.fullmatch(node)
    return (found["word"] if found else "") or ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _indexed(pairs: Iterable[tuple[str, str]]) -> Mapping[str, list[str]]:
    index: dict[str, list[str]] = {}
    for word, node in pairs:
        if word:
            index.setdefault(word, []).append(node)
    return index
