"""What will be done: every point of an experiment as a graph with a key, in the order that is cheapest to render."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sweep.experiment.definition import Axis, Experiment, InputImage, Level, Variation
from sweep.plan import order
from sweep.plan.bodies import Body
from sweep.plan.fingerprint import fingerprint
from sweep.plan.instance import Instance
from sweep.plan.keys import KeyChain, salted
from sweep.plan.nesting import ALL
from sweep.plan.order import Order
from sweep.plan.probes import probes
from sweep.plan.replicates import REPLICATE, Replicated, replicate_axis
from sweep.plan.shapes import Shape
from sweep.plan.shaping import Shapes
from sweep.workflow.graph import Graph, ModelRef
from sweep.workflow.naming import readable
from sweep.workflow.schemas import NodeSchemas


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An experiment bound to its workflow and to what a server has. Made by `make_plan`; costs nothing a point."""

    experiment: Experiment
    bodies: tuple[Body, ...]  # one for each shape its graphs have; most experiments have one
    shapes: Shapes
    schemas: NodeSchemas
    models: tuple[ModelRef, ...] = ()  # the main models it renders with
    workflow_notes: tuple[str, ...] = ()  # what reading the workflow's file completed or left out
    salted: tuple[str, ...] = ()  # axes that decide a key, though no picture: boards

    @cached_property
    def grid(self) -> Sequence[Variation]:
        """Every point, lazily, by index: those of the experiment, each as often as its study wants it repeated."""
        points = self.experiment.grid
        return Replicated(points, self.replicates) if self.replicates > 1 else points

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """The axes of `grid`: the experiment's, and `replicate` where there are several."""
        more = (replicate_axis(self.replicates),) if self.replicates > 1 else ()
        return (*self.experiment.axes, *more)

    @property
    def replicates(self) -> int:
        """How often each point is rendered."""
        return self.experiment.study.replicates

    @property
    def graph(self) -> Graph:
        """The graph as it will be sent for the first point."""
        first = self.bodies[0]
        return first.graph.set(first.values(first.levels))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The nodes of `graph` whose pictures are kept."""
        return self.bodies[0].outputs

    @cached_property
    def images(self) -> Mapping[str, InputImage]:
        """Every input picture, by SHA-256."""
        return self.experiment.images()

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of how the experiment was bound, each a sentence."""
        bound = [note for body in self.bodies for note in body.notes]
        return tuple(dict.fromkeys((*self.experiment.notices, *self.workflow_notes, *bound, *self._outside())))

    def _outside(self) -> Iterator[str]:
        """Pictures that stay behind when the experiment's folder is copied elsewhere."""
        folder = self.experiment.folder.resolve()
        for image in self.images.values():
            if not image.path.resolve().is_relative_to(folder):
                yield f"{image.shown} lies outside the experiment's folder."

    @cached_property
    def sets(self) -> tuple[str, ...]:
        """Which fields the axes set, to be read by people: denoise.denoising_start = 1 − denoise_strength."""
        said = [readable(body.graph, binding.rule.shown) for body in self.bodies for binding in body.bindings]
        return tuple(dict.fromkeys(text for text in said if text))

    @cached_property
    def fingerprint(self) -> str:
        """Changes with anything that decides which key an index has, or which values it shows."""
        return fingerprint(self.experiment, self.bodies)

    def __len__(self) -> int:
        return len(self.grid)

    def instance(self, variation: Variation) -> Instance:
        """The graph of one point, with its key."""
        levels = variation.levels
        body = self._body(levels)
        digests = body.digests.with_fields(body.values(levels))
        graph = digests.graph
        return Instance(
            key=_repeated(salted(digests.key(body.outputs), self._salt(levels)), self._repeat(levels)),
            variation=variation,
            graph=graph,
            outputs=body.outputs,
            prompt=body.prompt(graph),
            model=body.model(graph),
            source=body.source(graph),
            images={sha: self._files[sha] for sha in body.pictures(graph)},
            tagged=body.tagged,
            recalled=body.recalled(graph),
            replicate=self._repeat(levels),
        )

    def keys(self, indices: Iterable[int]) -> Iterator[tuple[int, str]]:
        """(index, key) of these points: what `instance` would say, in a fraction of the time where neighbours share
        their slow axes.
        """
        grid = self.experiment.grid
        chain = KeyChain(self.experiment.dimensions, self._body, self._salt)
        count = self.replicates
        points = ((index, grid.space.digits(grid.chosen[index // count])) for index in indices)
        for index, key, _ in chain.keys(points):
            yield index, _repeated(key, index % count)

    def in_shard(self, key: str, k: int, n: int) -> bool:
        """Whether the key belongs to the `k`-th of `n` parts, k from 1: decided by the key alone, whatever the grid."""
        return int(key[:16], 16) % n == k - 1

    def shard(self, k: int, n: int) -> Iterator[int]:
        """The indices of one part, ascending."""
        return (index for index, key in self.keys(range(len(self))) if self.in_shard(key, k, n))

    @cached_property
    def nesting(self) -> Order:
        """How the dimensions are nested when the points are rendered, and the work that spares."""
        return order.choose_order(self.experiment.dimensions, self.bodies, self.schemas)

    def order(self, only: Mapping[int, int] = ALL) -> Iterator[int]:
        """Every index once, in the order to render; of the dimensions in `only`, that position alone."""
        sizes = [len(dimension) for dimension in self.experiment.dimensions]
        count = self.replicates
        for index in order.indices(self.experiment.grid, sizes, self.nesting.nesting, only):
            yield from range(index * count, index * count + count)

    def probes(self) -> list[tuple[str, Graph]]:
        """(where in the experiment, a graph) for a server's dry run: each value of each axis once, by itself."""
        return [probe for body in self.bodies for probe in self._probes(body)]

    def _probes(self, body: Body) -> Iterator[tuple[str, Graph]]:
        return probes(body, self.experiment.dimensions, lambda levels: self.shapes.suits(levels, body.shape))

    def _body(self, levels: Mapping[str, Level]) -> Body:
        return self.bodies[0] if len(self.bodies) == 1 else self._by_shape[self.shapes.at(levels)]

    @cached_property
    def _by_shape(self) -> dict[Shape, Body]:
        return {body.shape: body for body in self.bodies}

    @cached_property
    def _files(self) -> dict[str, Path]:
        return {sha: image.path for sha, image in self.images.items()}

    def _salt(self, levels: Mapping[str, Level]) -> dict[str, Any]:
        return {axis: levels[axis].value for axis in self.salted}

    def _repeat(self, levels: Mapping[str, Level]) -> int:
        """Which repetition: 0 is the point itself."""
        level = levels.get(REPLICATE) if self.replicates > 1 else None
        return int(level.value or 1) - 1 if level else 0


def _repeated(key: str, number: int) -> str:
    """The key of a repetition; the first has the point's own, so that asking for more renders only the new ones."""
    return salted(key, {REPLICATE: number} if number else {})
