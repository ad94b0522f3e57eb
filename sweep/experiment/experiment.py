"""An experiment: what a file declares, and the grid that comes of it. Here other layers find the values, too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from sweep.errors import ExperimentError
from sweep.experiment.document import Document, make_plain, read_file, read_text
from sweep.experiment.grid import Grid
from sweep.experiment.loader import load_document
from sweep.experiment.model import Axis, Declaration, Dimension, ListLevels, UndrawnLevels
from sweep.role_table import SEED_MAX


@dataclass(frozen=True, kw_only=True, repr=False)
class Experiment(Declaration):
    """What is asked: a workflow, what is fixed, what is varied. Immutable; made by `load`, `from_text`, `from_dict`."""

    def __repr__(self) -> str:
        axes = ", ".join(f"{axis.name} ({len(axis.levels):,})" for axis in self.axes) or "none"
        return f"<Experiment {self.name!r}: workflow {self.workflow}, axes {axes}>"

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = (), fetched: Path | None = None) -> Self:
        """Load the experiment in the YAML file at `path`.

        Args:
            path: The file.
            overrides: Texts as in "inputs.steps=30", applied in order.
            fetched: The folder of what the file names on servers; by default `inputs` beside the file, where a run
                keeps it. `sweep.load_from_servers` fetches it.

        Raises:
            ExperimentError: The file has problems; each is listed with line and column.
            UnfetchedError: It names images or a workflow that have to be fetched from a server first.
            UsageError: An override leads nowhere.

        Example::

            experiment = Experiment.load("denoise.yaml", overrides=["inputs.steps=30"])
            print(len(experiment.grid), experiment.grid[0].values)
        """
        document = read_file(Path(path), str(path))
        return load_document(cls, document, Path(path).resolve(), str(path), overrides, fetched)

    @classmethod
    def from_text(
        cls, text: str, folder: str | Path = ".", overrides: Sequence[str] = (), fetched: Path | None = None
    ) -> Self:
        """Load the experiment in YAML `text`; relative paths start from `folder`. Raises as `load` does."""
        top = Path(folder).resolve()
        document = read_text(text, folder=top, shown="experiment")
        return load_document(cls, document, top / "experiment.yaml", "experiment", overrides, fetched)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], folder: str | Path = ".", fetched: Path | None = None) -> Self:
        """Load the experiment that a file holding `data` would be. Raises as `load` does, without lines."""
        top = Path(folder).resolve()
        document = Document(data=make_plain(data), folder=top)
        return load_document(cls, document, top / "experiment.yaml", "experiment", (), fetched)

    @cached_property
    def grid(self) -> Grid:
        """All points, lazily."""
        return Grid(self.dimensions, self.clauses, self.design)

    def with_seeds(self, seeds: Mapping[str, Iterable[int]]) -> Experiment:
        """Return the same experiment with the seeds of `undrawn` axes drawn.

        Raises:
            ExperimentError: An axis is not one of them, or the number of seeds is not what it asks for.
        """
        drawn = {name: tuple(values) for name, values in seeds.items()}
        for name, values in drawn.items():
            if name not in self.undrawn:
                raise ExperimentError(f"{name} is not an axis of seeds that are still to be drawn.")
            if len(values) != self.undrawn[name] or len(set(values)) != len(values):
                raise ExperimentError(f"Axis {name} needs {self.undrawn[name]} different seeds, not {len(values)}.")
            if not all(0 <= seed <= SEED_MAX for seed in values):
                raise ExperimentError(f"Seeds are 0 to {SEED_MAX}.")

        def draw(axis: Axis) -> Axis:
            if axis.name not in drawn or not isinstance(axis.levels, UndrawnLevels):
                return axis
            return replace(axis, levels=ListLevels(axis.levels.targets, drawn[axis.name]))

        dimensions = tuple(Dimension(tuple(map(draw, dimension.axes))) for dimension in self.dimensions)
        return replace(self, dimensions=dimensions)
