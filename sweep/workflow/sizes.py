"""Where the width and height of a picture are decided, in graphs that pass sizes on from node to node."""

from __future__ import annotations

from collections.abc import Iterator

from sweep.workflow.graph import Address
from sweep.workflow.wiring import PICTURES, Wiring, of_type

_RESIZERS = frozenset({"img_resize", "heuristic_resize"})


def size_source(wiring: Wiring, address: Address) -> Address | None:
    """The field that decides a width or height; None where that is the size of a picture that is put in.

    A size that comes out of a node is what went into it under the same name, or the size of its picture.
    """
    seen: set[Address] = set()
    while edges := wiring.feeding(address):
        output = edges[-1].source
        if output in seen or output.field != address.field:
            return None if _measures_picture(wiring, address) else address
        seen.add(output)
        before = _same_size(wiring, output)
        if before is None:
            return None
        address = before
    return address


def _same_size(wiring: Wiring, output: Address) -> Address | None:
    """The input that a width or height output repeats, further up where its node takes none itself."""
    waiting = [output.node]
    for node in waiting:
        if wiring.has(node, output.field):
            return Address(node, output.field)
        schema = wiring.schema(node)
        pictures = [name for name, field in schema.fields.items() if field.type in PICTURES] if schema else []
        for name in pictures:
            waiting.extend(e.source.node for e in wiring.feeding(Address(node, name)) if e.source.node not in waiting)
    return None


def _measures_picture(wiring: Wiring, address: Address) -> bool:
    """Whether a computed size goes back to the size of some picture."""
    upstream = wiring.upstream(address, lambda _: True, lambda _: False)
    return any("ImageField" in schema.outputs.values() for node in upstream if (schema := wiring.schema(node)))


def resizing(wiring: Wiring, latents: Address) -> Iterator[str]:
    """The node that makes the source picture fit before it is encoded, where there is one."""
    passes = of_type("ImageField", "LatentsField")
    for node in wiring.upstream(latents, passes, lambda node: wiring.kind(node) in _RESIZERS):
        if wiring.kind(node) in _RESIZERS:
            yield node
            return
