"""From the checked shape of a file to an Experiment's axes and inputs, gathering every fault on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sweep.errors import did_you_mean
from sweep.experiment import axes as kinds
from sweep.experiment import axis_schema as schema
from sweep.experiment.consistency import check_distinct
from sweep.experiment.document import Faults, Place, dotted
from sweep.experiment.dynamic import expand
from sweep.experiment.levels import UndrawnLevels
from sweep.experiment.naming import AxisError, Naming, SettingReader
from sweep.experiment.ranges import num_axis, step_axis
from sweep.experiment.seeds import seed_axis
from sweep.experiment.settings import Paths, Settings
from sweep.experiment.tables import SourceError, columns_of, lines_of, settings_of, typed
from sweep.experiment.values import Axis, Dimension, Scalar, Setting
from sweep.experiment.vocabulary import INPUT_NAMES, ROLE_NAMES, base_role, is_target, role_of


class Builder:
    """Makes inputs and dimensions; faults go to `faults`, and what they concern is left out of the result."""

    def __init__(self, faults: Faults, paths: Paths) -> None:
        self.faults = faults
        self.paths = paths
        self.settings = Settings(paths)
        self.notices: list[str] = []
        self.undrawn: dict[str, int] = {}

    def inputs(self, raw: Mapping[str, Any]) -> dict[str, Setting]:
        """Every input that is known and right."""
        result: dict[str, Setting] = {}
        for target, value in raw.items():
            place = ("inputs", target)
            if not self.known_target(place, target, INPUT_NAMES):
                continue
            try:
                result[target] = self.settings.read(target, value, place)
            except AxisError as error:
                self.faults.value(place, f"{dotted(place)} {error.message}".replace("  ", " "))
        return result

    def known_target(self, place: Place, target: str, names: Sequence[str]) -> bool:
        """Whether `target` is a role or has the shape of an address; else a fault at `place`."""
        if is_target(target, names):
            return True
        if target == "board":
            self.faults.key(place, f"{dotted(place)}: the board stands at the top level of the file, as board: …")
        else:
            self.faults.key(place, f"{dotted(place)} is not a role or a node.field.{did_you_mean(target, names)}")
        return False

    def dimensions(self, specs: Mapping[str, Any]) -> tuple[Dimension, ...]:
        """One dimension for each entry of `axes` that is right."""
        result = []
        for name, spec in specs.items():
            dimension = self._dimension(name, spec, ("axes", name))
            if dimension is not None:
                result.append(dimension)
        check_distinct(self.faults, result)
        return tuple(result)

    def _dimension(self, name: str, spec: Any, place: Place) -> Dimension | None:
        try:
            if isinstance(spec, schema.Zip):
                return self._zip(spec, place)
            if isinstance(spec, schema.CsvColumns) and spec.columns:
                return self._csv_columns(spec, place)
            return Dimension((self._axis(name, spec, place, repeats=False),))
        except AxisError as error:
            self._tell(error, place)
            return None

    def _tell(self, error: AxisError, place: Place) -> None:
        for fault in (error, *error.others):
            where = (*place, *fault.part)
            if fault.part and where in self.faults.document.values:
                self.faults.value(where, fault.message)
            else:
                self.faults.key(where, fault.message)

    def _zip(self, spec: schema.Zip, place: Place) -> Dimension | None:
        axes: list[Axis | None] = []
        for name, inner in spec.zip.items():
            inside = (*place, "zip", name) if (*place, "zip", name) in self.faults.document.keys else (*place, name)
            try:
                axes.append(self._axis(name, inner, inside, repeats=True))
            except AxisError as error:
                self._tell(error, inside)
                axes.append(None)
        right = [axis for axis in axes if axis is not None]
        if len(right) < len(axes):
            return None
        try:
            return kinds.zipped(right, dotted(place))
        except AxisError as error:
            nested = (*place, "zip", *error.part)
            self.faults.key(nested if nested in self.faults.document.keys else (*place, *error.part), error.message)
            return None

    def _csv_columns(self, spec: schema.CsvColumns, place: Place) -> Dimension:
        shown = self.paths.shown((*place, "csv"), spec.csv)
        try:
            columns = columns_of(self.paths.path(shown), shown, list(spec.columns.values()))
        except SourceError as error:
            raise AxisError(str(error), "csv") from error
        axes = []
        for name, cells in zip(spec.columns, columns, strict=True):
            naming = self._naming(name, (), (*place, "columns"), repeats=True, default="")
            axes.append(kinds.list_axis(naming, _cells(naming, cells), self._reader(place)))
        if len(axes) == 1:
            return Dimension(tuple(axes))
        return kinds.zipped(axes, dotted(place))

    def _reader(self, place: Place) -> SettingReader:
        def read(target: str, raw: Any, *part: str | int) -> Setting:
            inside = (*place, *part)
            if not (is_target(target) or target == "controls"):
                raise AxisError(
                    f"{dotted(inside)} is not a role or a node.field.{did_you_mean(target, ROLE_NAMES)}", *part
                )
            try:
                return self.settings.read(target, raw, inside)
            except AxisError as error:
                raise AxisError(f"{dotted(inside)} {error.message}", *part) from error

        return read

    def _naming(self, name: str, targets: Sequence[str], place: Place, *, repeats: bool, default: str | None) -> Naming:
        """`default` is what the axis sets where neither its name nor `target` says it; None where it need not."""
        said_where = dotted(place)
        for target in targets:
            if not is_target(target):
                raise AxisError(
                    f"{said_where}: target {target} is not a role or a node.field.{did_you_mean(target, ROLE_NAMES)}",
                    "target",
                )
        if name == "zip":
            raise AxisError(f"{said_where} must be a mapping of axes that step together")
        if not targets and is_target(name):
            targets = (name,)
        elif not targets and default is not None:
            if not default:
                raise AxisError(
                    f"{said_where} is not a role or a node.field.{did_you_mean(name, ROLE_NAMES)}"
                    " An axis under another name says what it sets with target."
                )
            targets = (default,)
        return Naming(name, tuple(targets), said_where, repeats)

    def _axis(self, name: str, spec: Any, place: Place, *, repeats: bool) -> Axis:
        read = self._reader(place)
        default = "image" if isinstance(spec, schema.Images) else ""
        if isinstance(spec, schema.Replace | schema.Dynamic):
            default = "prompt"
        labelled = isinstance(spec, schema.SettingsFile) or (
            isinstance(spec, schema.Labelled) and isinstance(spec.values, dict)
        )
        targets = getattr(spec, "target", ())
        naming = self._naming(name, targets, place, repeats=repeats, default=None if labelled else default)
        match spec:
            case list():
                return kinds.list_axis(naming, spec, read)
            case schema.StepRange():
                axis, notices = step_axis(naming, spec.start, spec.stop, spec.step)
                self.notices += notices
                return axis
            case schema.CountRange():
                return num_axis(naming, spec.start, spec.stop, spec.num, spec.scale)
            case schema.Seeds():
                return self._seeds(naming, spec)
            case schema.Labelled(values=dict()):
                return kinds.labelled_axis(naming, spec.values, read)
            case schema.Labelled():
                return kinds.list_axis(naming, spec.values, lambda t, raw, *part: read(t, raw, "values", *part))
            case schema.Replace():
                self._texts_only(naming, "replace")
                return kinds.replace_axis(naming, spec.replace, spec.with_)
            case _:
                return self._from_files(naming, spec, place)

    def _seeds(self, naming: Naming, spec: schema.Seeds) -> Axis:
        for target in naming.targets:
            role = role_of(target)
            if role is not None and base_role(target) != "seed":
                raise AxisError(f"{naming.place}: count draws seeds, and {target} is none; a range has start and stop")
        axis = seed_axis(naming, spec.count, spec.start)
        if isinstance(axis.levels, UndrawnLevels):
            self.undrawn[naming.name] = spec.count
        return axis

    def _from_files(self, naming: Naming, spec: Any, place: Place) -> Axis:
        read = self._reader(place)
        try:
            match spec:
                case schema.Lines():
                    shown = self.paths.shown((*place, "lines"), spec.lines)
                    return self._listed(naming, lines_of(self.paths.path(shown), shown), place, shown)
                case schema.CsvColumns():
                    shown = self.paths.shown((*place, "csv"), spec.csv)
                    cells = columns_of(self.paths.path(shown), shown, [spec.column or naming.name])[0]
                    return self._listed(naming, cells, place, shown)
                case schema.SettingsFile():
                    shown = self.paths.shown((*place, "settings"), spec.settings)
                    labels = settings_of(self.paths.path(shown), shown)
                    return kinds.labelled_axis(naming, labels, read)
                case schema.Images():
                    patterns = [self.paths.shown((*place, "images"), pattern) for pattern in spec.images]
                    found = kinds.matching_files(self.paths.folder, patterns, naming.place)
                    return kinds.image_axis(naming, found, read)
                case _:
                    return self._dynamic(naming, spec, place)
        except SourceError as error:
            raise AxisError(f"{naming.place}: {error}", schema.axis_key(spec)) from error

    def _texts_only(self, naming: Naming, key: str) -> None:
        for target in naming.targets:
            role = role_of(target)
            if role is not None and role.kind != "text":
                raise AxisError(f"{naming.place}: {key} makes texts, but {target} is none", key)

    def _dynamic(self, naming: Naming, spec: schema.Dynamic, place: Place) -> Axis:
        self._texts_only(naming, "dynamic")
        folder = None
        if spec.wildcards is not None:
            folder = self.paths.path(self.paths.shown((*place, "wildcards"), spec.wildcards))
        return self._listed(naming, expand(spec.dynamic, folder), place, "its templates")

    def _listed(self, naming: Naming, cells: Sequence[str], place: Place, origin: str) -> Axis:
        axis, notices = kinds.listed_axis(naming, _cells(naming, cells), self._reader(place), origin)
        self.notices += notices
        return axis


def _cells(naming: Naming, cells: Sequence[str]) -> Sequence[Scalar]:
    """Text stays text where the role wants text; else numbers are numbers."""
    role = role_of(naming.targets[0]) if naming.targets else None
    return list(cells) if role is not None and role.kind not in ("number", "integer") else list(typed(cells))
