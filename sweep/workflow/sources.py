"""Where pictures come into a graph: the fields, without an edge of their own, from which one leads to a place."""

from __future__ import annotations

from collections.abc import Iterator

from sweep.workflow.graph import Address
from sweep.workflow.wiring import PICTURES, Wiring, of_type


def picture_sources(wiring: Wiring, start: Address) -> Iterator[Address]:
    """The picture fields without an edge from which pictures or latents lead to `start`."""
    passes = of_type(*PICTURES)
    for node in wiring.upstream(
        start, lambda f: passes(f) and f.name not in {"noise", "denoise_mask"}, lambda _: False
    ):
        yield from open_pictures(wiring, node)


def open_pictures(wiring: Wiring, node: str) -> Iterator[Address]:
    schema = wiring.schema(node)
    for name, field in schema.fields.items() if schema else ():
        address = Address(node, name)
        given = field.required or wiring.value(address) is not None
        if field.type == "ImageField" and given and "mask" not in name and not wiring.feeding(address):
            yield address
