"""The nodes of a graph that denoise, and what is said of them: the scene in which roles are looked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sweep.workflow.encodings import IDENTITY, Encoding
from sweep.workflow.graph import Address
from sweep.workflow.wiring import Wiring, of_type

POSITIVE = ("positive_conditioning", "positive_text_conditioning")
NEGATIVE = ("negative_conditioning", "negative_text_conditioning")
_WEIGHTS = ("unet", "transformer")


@dataclass(frozen=True, slots=True)
class Candidate:
    """Fields that are set together, all with one encoding."""

    addresses: tuple[Address, ...]
    encode: Encoding = IDENTITY


@dataclass(frozen=True, slots=True)
class Scene:
    """A graph's denoising nodes, in order. Refiners follow the model before them: only prompts reach them."""

    wiring: Wiring
    denoising: tuple[str, ...]
    refining: tuple[str, ...]
    drawing: tuple[str, ...]  # nodes that do everything in one, by asking another service
    wanted: frozenset[str]  # the nodes that lead to the outputs

    @classmethod
    def of(cls, wiring: Wiring, outputs: tuple[str, ...]) -> Scene:
        """Only what leads to the outputs counts, where there are outputs at all."""
        wanted = wiring.before(outputs or wiring.graph.nodes)
        nodes = [node for node in wiring.graph.nodes if node in wanted]
        denoising = [node for node in nodes if _denoises(wiring, node)]
        refining = [node for node in denoising if _refines(wiring, node)]
        drawing = [node for node in nodes if wiring.has(node, "prompt") and wiring.has(node, "reference_images")]
        return cls(
            wiring,
            tuple(node for node in denoising if node not in refining),
            tuple(refining),
            tuple(node for node in drawing if wiring.has(node, "model")),
            wanted,
        )


def _denoises(wiring: Wiring, node: str) -> bool:
    schema = wiring.schema(node)
    gives_latents = schema is not None and "LatentsField" in schema.outputs.values()
    return gives_latents and first_field(wiring, node, POSITIVE) is not None


def _refines(wiring: Wiring, node: str) -> bool:
    return any("refiner" in wiring.kind(loader) for loader in model_path(wiring, node))


def first_field(wiring: Wiring, node: str, names: tuple[str, ...]) -> Address | None:
    """The first of these inputs that the node has."""
    return next((Address(node, name) for name in names if wiring.has(node, name)), None)


def model_path(wiring: Wiring, node: str) -> Iterator[str]:
    """The loader of a denoising node's weights and all between the two, nearest to the denoising first."""
    start = first_field(wiring, node, _WEIGHTS)
    schema = wiring.schema(node)
    if start is not None and schema is not None:
        yield from wiring.upstream(start, of_type(schema.fields[start.field].type), lambda _: False)
