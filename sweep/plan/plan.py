"""Plan: every point of an experiment as a graph with a key, in the order that is cheapest to render."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from sweep.experiment import (
    Axis,
    CellSeeds,
    Experiment,
    LazySequence,
    Level,
    LinearLevels,
    ListLevels,
    MadeLevels,
    ReplacingLevels,
    Variation,
    is_reference,
    put_cell_seeds,
)
from sweep.input_images import InputImage
from sweep.plan.field_rules import FieldRule, Written
from sweep.plan.graph_binder import BoundGraph, GraphVariant, VariantSelector, make_probes
from sweep.plan.rendering_order import ALL_POSITIONS, RenderingOrder, choose_order, order_indices
from sweep.role_table import TEMPLATE_NAMES
from sweep.workflow import (
    Dialect,
    Digests,
    Graph,
    ImageRef,
    ModelRef,
    NodeChange,
    NodeSchemas,
    Value,
    canonical,
    make_readable,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A variation bound to its graph, which names no server and holds no metadata: see `make_submission`."""

    key: str  # hex; same key, same image: names neither server, folder, label nor layout
    variation: Variation
    graph: Graph
    digests: Mapping[str, str]  # by node of the graph: of what it computes
    outputs: tuple[str, ...]  # the nodes whose images are wanted
    dialect: Dialect  # of the servers the graph is for
    prompt: str | None = None  # as it is rendered, composed
    model: str | None = None  # name of the main model
    source: str | None = None  # SHA-256 of the image it starts from
    images: Mapping[str, Path] = field(default_factory=dict)  # SHA-256 → file, for each ImageRef in the graph
    tagged: tuple[str, ...] = ()  # those of the outputs that take metadata
    recalled: Mapping[str, Value] = field(default_factory=dict)  # what a server's own pages show of an image
    replicate: int = 0  # above 0: rendered anew with everything equal, so nothing of it may come from a cache

    def make_submission(self) -> Graph:
        """Make the graph to send when it is rendered by itself: its key and values will stand in the image's metadata.

        Nothing of a replicate comes from the server's cache: the noise floor is what it is for.
        """
        graph = self.graph
        if self.replicate:
            graph = graph.adding(self.dialect.refresh(node, self.replicate) for node in graph.nodes.values())
        return self.add_metadata(graph, self.tagged)

    @property
    def metadata(self) -> dict[str, Value]:
        """Return the key and the values, as they are written into the image."""
        return {"sweep_key": self.key, "sweep_values": dict(self.variation.values)}

    def add_metadata(self, graph: Graph, outputs: Sequence[str]) -> Graph:
        """Make `outputs` of the graph write this variation's key, values and parameters into their images."""
        return self.dialect.write_metadata(graph, outputs, {**self.recalled, **self.metadata})


REPLICATE_AXIS: Final = "replicate"  # name of the axis that counts them, from 1


def make_replicate_axis(count: int) -> Axis:
    """Make the axis that counts the repetitions; it sets nothing."""
    return Axis(REPLICATE_AXIS, "integer", MadeLevels((), tuple(Level(number, {}) for number in range(1, count + 1))))


class Replicated(LazySequence[Variation]):
    """The points of an experiment, each `count` times in a row: the axis `replicate` varies fastest."""

    def __init__(self, points: Sequence[Variation], count: int) -> None:
        self._points = points
        self._levels = make_replicate_axis(count).levels

    def __len__(self) -> int:
        return len(self._points) * len(self._levels)

    def item(self, at: int) -> Variation:
        point, number = divmod(at, len(self._levels))
        return Variation(at, {**self._points[point].levels, REPLICATE_AXIS: self._levels[number]})


_VERSION: Final = "1"  # of how keys are made: another one makes every index new
_LARGE: Final = 2_250_000  # pixels: more than twice what today's models are trained on


@dataclass(frozen=True, kw_only=True, repr=False)
class Plan:
    """An experiment bound to its workflow and to a server. Made by `make_plan`; needs no memory for its points."""

    experiment: Experiment
    bound_graphs: tuple[BoundGraph, ...]  # one for each variant its graphs have; most experiments have one
    variants: VariantSelector
    schemas: NodeSchemas
    models: tuple[ModelRef, ...] = ()  # the main models it renders with
    workflow_notes: tuple[str, ...] = ()  # what reading the workflow's file completed or left out
    salted: tuple[str, ...] = ()  # axes that decide a key, though no image: boards

    def __repr__(self) -> str:
        models = ", ".join(model.name for model in self.models) or "none"
        return f"<Plan of {self.experiment!r}, graphs {len(self.bound_graphs)}, models {models}>"

    @cached_property
    def grid(self) -> Sequence[Variation]:
        """Return every point lazily, by index: each point of the experiment as often as its study repeats it."""
        points = self.experiment.grid
        return Replicated(points, self.replicates) if self.replicates > 1 else points

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """Return the axes of `grid`: the experiment's, and `replicate` where there are several."""
        more = (make_replicate_axis(self.replicates),) if self.replicates > 1 else ()
        return (*self.experiment.axes, *more)

    @property
    def replicates(self) -> int:
        """Return the number of times that each point is rendered."""
        return self.experiment.study.replicates

    @property
    def is_fusable(self) -> bool:
        """Tell whether several points may share an item."""
        return all(bound.is_fusable for bound in self.bound_graphs)

    @property
    def graph(self) -> Graph:
        """Return the graph as it will be sent for the first point."""
        first = self.bound_graphs[0]
        return first.graph.set(first.values(first.levels))

    @cached_property
    def images(self) -> Mapping[str, InputImage]:
        """Return every input image by SHA-256."""
        return self.experiment.images()

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """Notes for people on how the experiment was bound to its workflow, each a sentence."""
        bound = [note for bound in self.bound_graphs for note in bound.notes]
        return tuple(dict.fromkeys((*self.experiment.notices, *self.workflow_notes, *bound, *self._note_images())))

    def _note_images(self) -> Iterator[str]:
        """Note sources too large for most graphics cards, and those left behind when a folder is copied."""
        rules = [rule for bound in self.bound_graphs for rule in (*bound.rules, *bound.fixed)]
        is_following = any({"image", "width", "height"} <= set(rule.targets) for rule in rules)
        uses = self.experiment.assignments
        for image in self.images.values() if is_following and not ("width" in uses or "height" in uses) else ():
            if image.width * image.height > _LARGE:
                way = "nothing resizes it here, so make the file smaller"
                if self.experiment.workflow in TEMPLATE_NAMES:
                    way = f"inputs.{'width' if image.width >= image.height else 'height'}: 1024 keeps its shape in less"
                yield f"{image.shown} is rendered at its own {image.width} × {image.height} pixels; {way}."
        folder = self.experiment.folder.resolve()
        for image in self.images.values():
            if not is_reference(image.shown) and not image.path.resolve().is_relative_to(folder):
                yield f"{image.shown} is outside the experiment's folder, so it is not copied with that folder."

    @cached_property
    def sets(self) -> tuple[str, ...]:
        """Return the fields that the axes set, as people read them: denoise.denoising_start = 1 − denoise_strength."""
        said = [make_readable(bound.graph, rule.shown) for bound in self.bound_graphs for rule in bound.rules]
        return tuple(dict.fromkeys(text for text in said if text))

    @cached_property
    def fingerprint(self) -> str:
        """Return a hash (32 hex digits) of everything that decides which key an index has, or which values it shows.

        Takes time in the levels of the axes, not in their product.
        """
        digest = blake2b(digest_size=16)
        for part in self._list_parts():
            digest.update(json.dumps(part, sort_keys=True).encode())
            digest.update(b"\n")
        return digest.hexdigest()

    def _list_parts(self) -> Iterator[Any]:
        experiment, design = self.experiment, self.experiment.design
        yield _VERSION
        yield {name: _describe_setting(setting) for name, setting in experiment.inputs.items() if name != "board"}
        for bound in self.bound_graphs:
            yield [bound.digests.key(bound.outputs), [rule.shown for rule in bound.rules]]
            yield bound.digests.with_fields(self._write_first(bound)).key(bound.outputs)
        for dimension in experiment.dimensions:
            yield [[axis.name, axis.kind, list(_describe_levels(axis))] for axis in dimension.axes]
        yield [[clause.text, clause.wanted] for clause in experiment.clauses]
        yield [design.kind, design.points, design.seed, dict(design.baseline)]
        if design.kind not in ("full", "adaptive"):
            yield [design.seeds, design.share or 1.0]
        yield self.replicates

    def _write_first(self, bound: BoundGraph) -> Written:
        """Compute the fields at the first levels that have this variant, though conditions may exclude that point: a
        record that older versions wrote has the fingerprint of that.
        """
        deciding = set(self.variants.axes)
        moved = [each for each in self.experiment.dimensions if deciding.isdisjoint(axis.name for axis in each.axes)]
        return bound.values({**bound.levels, **{axis.name: axis.levels[0] for each in moved for axis in each.axes}})

    def __len__(self) -> int:
        return len(self.grid)

    @property
    def most(self) -> int:
        """Return the most points that a run renders: all of them, or fewer where the design chooses as it goes."""
        design = self.experiment.design
        return math.floor(design.at_most * len(self) + 1e-9) if design.kind == "adaptive" else len(self)

    def instance(self, variation: Variation) -> Instance:
        """Bind one point: its graph, with its key."""
        levels = variation.levels
        bound = self.select_graph(levels)
        digests = bound.digests.with_fields(bound.values(levels))
        graph = digests.graph
        prompt, model, image = (bound.read(graph, role) for role in ("prompt", "model", "image"))
        key = salt_key(digests.key(bound.outputs), {axis: levels[axis].value for axis in self.salted})
        refs = graph.references() if self.images else ()
        shown = sorted(ref.sha256 for ref in refs if isinstance(ref, ImageRef))
        repetition = levels.get(REPLICATE_AXIS) if self.replicates > 1 else None
        replicate = int(repetition.value or 1) - 1 if repetition else 0
        return Instance(
            key=_repeat_key(key, replicate),
            variation=variation,
            graph=graph,
            digests=digests.by_node,
            outputs=bound.outputs,
            dialect=self.schemas.dialect,
            prompt=prompt if isinstance(prompt, str) else None,
            model=model.name if isinstance(model, ModelRef) else None,
            source=image.sha256 if isinstance(image, ImageRef) else None,
            images={sha: self.images[sha].path for sha in shown},
            tagged=bound.tagged,
            recalled=bound.recall(graph),
            replicate=replicate,
        )

    def keys(self, indices: Iterable[int]) -> Iterator[tuple[int, str]]:
        """Yield (index, key) of these points as `instance` says, much faster where neighbours share their slow axes."""
        return ((index, key) for index, key, _ in self.keys_and_levels(indices))

    def keys_and_levels(self, indices: Iterable[int]) -> Iterator[tuple[int, str, Mapping[str, Level]]]:
        """Yield (index, key, levels by axis) of these points, as `keys`; the mapping is valid until the next one."""
        grid = self.experiment.grid
        count, chosen, unrank = self.replicates, grid.chosen, grid.space.unrank
        points = ((index, unrank(chosen[index // count])) for index in indices)
        repeats = make_replicate_axis(count).levels
        for index, key, levels in KeyChain(self).keys(points):
            number = index % count
            found = {**levels, REPLICATE_AXIS: repeats[number]} if count > 1 else levels
            yield index, _repeat_key(key, number), found

    def is_in_shard(self, key: str, k: int, n: int) -> bool:
        """Tell whether the key belongs to the `k`-th of `n` parts, k from 1, whatever the grid."""
        return int(key[:16], 16) % n == k - 1

    @cached_property
    def nesting(self) -> RenderingOrder:
        """Return the nesting of the dimensions when the points are rendered, and the work that it spares."""
        return choose_order(self.experiment.dimensions, self.bound_graphs, self.schemas)

    def order(self, only: Mapping[int, int] = ALL_POSITIONS) -> Iterator[int]:
        """List every index once, in the order to render; of the dimensions in `only`, that position alone."""
        sizes = [len(dimension) for dimension in self.experiment.dimensions]
        count = self.replicates
        for index in order_indices(self.experiment.grid, sizes, self.nesting.nesting, only):
            yield from range(index * count, index * count + count)

    def list_probes(self) -> list[tuple[str, Graph]]:
        """List (where in the experiment, a graph) for a server's dry run: each value of each axis once, by itself."""
        return [probe for bound in self.bound_graphs for probe in make_probes(bound, self.variants)]

    def select_graph(self, levels: Mapping[str, Level]) -> BoundGraph:
        """Select the graph of the variant that these levels need."""
        return self.bound_graphs[0] if len(self.bound_graphs) == 1 else self._by_variant[self.variants.at(levels)]

    @cached_property
    def _by_variant(self) -> dict[GraphVariant, BoundGraph]:
        return {bound.variant: bound for bound in self.bound_graphs}


def _repeat_key(key: str, number: int) -> str:
    """Make the key of a repetition; the first has the point's own, so asking for more renders only the new ones."""
    return salt_key(key, {REPLICATE_AXIS: number} if number else {})


_BYTES = 16


def salt_key(key: str, salt: Mapping[str, Any]) -> str:
    """Change the key of a point that differs from others in more than its graph: which repetition, which board.

    Without a salt the key stays the graph's own.
    """
    if not salt:
        return key
    text = json.dumps(canonical(dict(salt)), sort_keys=True)
    return blake2b(f"{key}{text}".encode(), digest_size=_BYTES).hexdigest()


_KEPT: Final = 4096  # positions of one dimension whose levels and nodes are kept once made


@dataclass(slots=True)
class _Step:
    """The values that one dimension writes into a graph, and the nodes that hold them, by position.

    `changes` is None where the nodes depend on more than the position: they are made anew for each point.
    """

    rules: list[FieldRule] = field(default_factory=list)
    changes: dict[int, NodeChange] | None = None

    def take(self, before: Digests, position: int, levels: Mapping[str, Level]) -> Digests:
        """Return the digests of the graph with these levels in it."""
        if not self.rules:
            return before
        change = self.changes.get(position) if self.changes is not None else None
        if change is None:
            values = {address: value for rule in self.rules for address, value in rule.write(levels).items()}
            change = before.prepare(values)
            if self.changes is not None:
                self.changes[position] = change
        return before.apply(change)


class KeyChain:
    """Keys of points in a row: only the nodes that changed since the point before are digested again."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._dimensions = dimensions = plan.experiment.dimensions
        self._has_cell_seeds = any(dimension.cell_seeds for dimension in dimensions)
        self._levels_at = lru_cache(_KEPT)(lambda at, position: dimensions[at].levels_at(position))
        self._digits: tuple[int, ...] = ()
        self._levels: dict[str, Level] = {}
        self._bound: BoundGraph | None = None
        self._steps: list[_Step] = []
        self._digests: list[Digests] = []  # of the bound graph, with what the first dimension sets, the first two, …

    def keys(self, points: Iterable[tuple[int, tuple[int, ...]]]) -> Iterator[tuple[int, str, dict[str, Level]]]:
        """Yield (index, key before replicates, levels) for each (index, position along each dimension)."""
        for index, digits in points:
            changed = self._move(digits)
            levels = self._levels
            bound = self._plan.select_graph(levels)
            if bound is not self._bound:
                self._begin(bound)
                changed = 0
            digests = self._digests
            for at in range(changed, len(digits)):
                digests[at + 1] = self._steps[at].take(digests[at], digits[at], levels)
            key = digests[-1].key(bound.outputs)
            yield index, salt_key(key, {axis: levels[axis].value for axis in self._plan.salted}), levels

    def _move(self, digits: tuple[int, ...]) -> int:
        """Take the levels of a point; return the first dimension along which it differs from the one before."""
        before, changed = self._digits, 0
        while changed < len(before) and before[changed] == digits[changed]:
            changed += 1
        for at in range(changed, len(digits)):
            self._levels.update(self._levels_at(at, digits[at]))
        self._digits = digits
        if self._has_cell_seeds:
            put_cell_seeds(self._dimensions, digits, self._levels)
        return changed

    def _begin(self, bound: BoundGraph) -> None:
        """Begin with a graph. Seeds of each cell are written last: they change with every axis."""
        last = len(self._dimensions) - 1
        home = {
            axis.name: last if dimension.cell_seeds else at
            for at, dimension in enumerate(self._dimensions)
            for axis in dimension.axes
        }
        self._bound = bound
        self._steps = [_Step() for _ in self._dimensions]
        for rule in bound.rules:
            self._steps[max(home[axis] for axis in rule.axes)].rules.append(rule)
        self._digests = [bound.digests] * (len(self._dimensions) + 1)
        written: set[str] = set()  # nodes that the dimensions so far write
        for step, dimension in zip(self._steps, self._dimensions, strict=True):
            own = {axis.name for axis in dimension.axes if not self._has_cell_seeds}
            nodes = {slot.address.node for rule in step.rules for slot in rule.slots}
            is_alone = all(own.issuperset(rule.axes) for rule in step.rules) and written.isdisjoint(nodes)
            step.changes = {} if is_alone and len(dimension) <= _KEPT else None
            written |= nodes


def _describe_levels(axis: Axis) -> Iterable[Any]:
    """Describe an axis: ranges by their ends, lists by their values."""
    levels = axis.levels
    if isinstance(levels, ReplacingLevels):
        return ["replace", levels.search, levels.targets, levels.values]
    if isinstance(levels, ListLevels) and axis.kind != "image":
        return ["list", levels.targets, levels.values]
    if isinstance(levels, LinearLevels):
        return ["linear", levels.targets, str(levels.first), str(levels.step), len(levels), levels.whole]
    if isinstance(levels, CellSeeds):
        return ["cell", levels.targets, levels.start, len(levels)]
    return [
        [level.value, {name: _describe_setting(value) for name, value in level.settings.items()}] for level in levels
    ]


def _describe_setting(value: Any) -> Any:
    if isinstance(value, InputImage):
        return {"$image": value.sha256, "size": [value.width, value.height]}
    if isinstance(value, Mapping):
        return {str(name): _describe_setting(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_describe_setting(item) for item in value]
    return canonical(value)
