"""`sweep plan`: show what a run would do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from sweep import engine, record
from sweep.cli.console import choose_text_width, fill_lines, join_parts, label_lines, print_notice
from sweep.cli.run import FIRST_LOOK, PAINTED, hint_at_server
from sweep.cli.shared_options import UNASKED, Access, AnswerPrinter, ExperimentOptions, FamilyOption, show_notice
from sweep.cli.study import check_metrics
from sweep.errors import DefinitionError, RecordError
from sweep.text import format_count, format_seconds, format_size, format_value, truncate

if TYPE_CHECKING:
    from sweep.engine import Forecast
    from sweep.experiment import Axis, Experiment
    from sweep.workflow import Model, NodeSchemas


_LABEL: Final = 10  # columns of a label
_ROOM: Final = _LABEL + 3  # columns before the text beside a label
_MAX_VALUE: Final = 60  # characters of one value of the first or last point
_AT_RANDOM: Final = "drawn at random"


def plan_lines(forecast: Forecast) -> list[str]:
    """Return name and question, then one labelled line per fact."""
    plan = forecast.plan
    experiment = plan.experiment
    title = f"{experiment.name} — {experiment.description}" if experiment.description else experiment.name
    lines = [*fill_lines(title, rest="  "), *_wrap("workflow", [_describe_workflow(forecast)])]
    lines += _wrap("servers", forecast.shares)
    sources = [f"{image.shown}  {image.width}×{image.height}" for image in plan.images.values()]
    if len(sources) > 6:
        sources[2:-1] = [f"… {len(sources) - 3:,} more"]
    lines += label_lines("source", sources, _LABEL)
    lines += label_lines("axes", _describe_axes(forecast) if plan.axes else [], _LABEL)
    lines += _join("points", _describe_points(forecast), "     ")
    lines += _join("sets", plan.sets)
    lines += _wrap("order", [_order(forecast)])
    lines += _wrap("estimate", [_estimate(forecast)])
    if plan.axes:
        lines += _join("first", _describe_point(forecast, 0))
        if len(plan) > 1:
            lines += _join("last", _describe_point(forecast, len(plan) - 1))
    return lines + _wrap("note", forecast.notes)


def _wrap(label: str, texts: Sequence[str]) -> list[str]:
    return label_lines(
        label, [line for text in texts for line in fill_lines(text, width=choose_text_width() - _ROOM)], _LABEL
    )


def _join(label: str, parts: Sequence[str], between: str = " · ") -> list[str]:
    return label_lines(label, join_parts(parts, between, choose_text_width() - _ROOM), _LABEL)


def _describe_workflow(forecast: Forecast) -> str:
    from sweep.sandbox import FAMILY

    plan = forecast.plan
    models = ", ".join(model.name for model in plan.models[:4]) + (
        f" and {len(plan.models) - 4} more" if len(plan.models) > 4 else ""
    )
    family = plan.schemas.dialect.name
    unasked = "the sandbox" if family == FAMILY else f"{family} (no server was asked: it may lack nodes or models)"
    where = ", ".join(f"{info.name} ({info.version})" for info in forecast.servers) or unasked
    return f"{plan.experiment.workflow}" + (f" with {models}" if models else "") + f" on {where}"


def _describe_axes(forecast: Forecast) -> list[str]:
    """Return one line per axis: name, number of values (right-aligned), values."""
    axes = forecast.plan.axes
    counts = [f"{len(axis.levels):,}" for axis in axes]
    width, digits = max(map(len, (axis.name for axis in axes))), max(map(len, counts))
    room = max(20, choose_text_width() - _ROOM - width - digits - 5)
    return [
        f"{axis.name:<{width}}  {count:>{digits}}   {truncate(_describe_values(axis, forecast), room)}"
        for axis, count in zip(axes, counts, strict=True)
    ]


def _describe_values(axis: Axis, forecast: Forecast) -> str:
    from sweep.experiment import CellSeeds

    if axis.name in forecast.provisional:
        return f"{_AT_RANDOM} by the first run"
    if isinstance(axis.levels, CellSeeds):
        return "seeds of its own for each combination"
    count = len(axis.levels)
    shown = [format_value(axis.levels[index].value) for index in range(count if count <= 4 else 2)]
    text = (" · " if axis.kind in ("text", "label") else ", ").join(shown)
    return text if count <= 4 else f"{text} … {format_value(axis.levels[count - 1].value)}"


def _describe_points(forecast: Forecast) -> list[str]:
    plan = forecast.plan
    sizes = [f"{len(dimension):,}" for dimension in plan.experiment.dimensions]
    if plan.replicates > 1:
        sizes.append(f"{plan.replicates} replicates")
    full = not plan.experiment.clauses and plan.experiment.design.kind == "full"
    most = f"at most {plan.most:,}" if plan.most < len(plan) else f"{len(plan):,}"
    product = most + ("" if full and len(sizes) < 2 else f" {'=' if full else 'of'} {' × '.join(sizes)}")
    parts = [product, f"done {forecast.done:,}", f"new {forecast.new:,}"]
    if forecast.failed:
        parts.append(f"failed {forecast.failed:,}")
    if forecast.former:
        parts.append(f"no longer asked for {forecast.former:,}")
    return parts


def _order(forecast: Forecast) -> str:
    order = forecast.plan.nesting
    dimensions = forecast.plan.experiment.dimensions
    names = [axis.name for at in order.nesting for axis in dimensions[at].axes] or ["one point"]
    work = [
        format_count(count, word)
        for count, word in (
            (order.chosen.models, "model load"),
            (order.chosen.loras, "LoRA load"),
            (order.chosen.prompts, "prompt encoding"),
            (order.chosen.images, "image encoding"),
        )
        if count
    ]
    spared = order.definition.models - order.chosen.models
    if spared > 0:
        work.append(f"{spared:,} model loads saved")
    return f"{', '.join(names)}" + (f" ({', '.join(work)})" if work else "")


def _estimate(forecast: Forecast) -> str:
    if not forecast.new:
        return "nothing to render"
    disk = format_size(forecast.bytes)
    if forecast.seconds is None:
        return f"{disk} of images; the time is known after the first images"
    servers = format_count(max(1, len(forecast.servers)), "server")
    rendering = (
        f"rendering about {format_seconds(forecast.seconds)} on {servers} (from {forecast.renders} earlier renders)"
    )
    meanwhile = ", most of it while rendering" if forecast.seconds > 2 * FIRST_LOOK else ""
    return f"{rendering} · measuring about {format_seconds(_estimate_measuring(forecast))}{meanwhile} · {disk}"


def _estimate_measuring(forecast: Forecast) -> float:
    from sweep.study import estimate_seconds

    if not forecast.new:
        return 0.0
    return estimate_seconds(forecast.plan.experiment.study.metrics, forecast.new, forecast.pixels)


def _describe_point(forecast: Forecast, index: int) -> list[str]:
    first, *rest = (
        f"{name} {_AT_RANDOM if name in forecast.provisional else truncate(format_value(value), _MAX_VALUE)}"
        for name, value in forecast.plan.grid[index].values.items()
    )
    return [f"{index:,}: {first}", *rest]


def plan(typed: ExperimentOptions, access: Access, printer: AnswerPrinter, family: FamilyOption = "") -> None:
    """Show what a run would do, and render nothing.

    Shows points (done and new), the fields that the axes set, the order, and the estimated time and disk space. With
    --server, checks against the nodes and models of that server; without, against the sandbox, or for a workflow of
    another family against the nodes packaged with sweep.
    """
    experiment, notice = typed.load(access)
    check_metrics(experiment)
    servers, folder = access.make_clients(experiment.servers), typed.results / experiment.name
    nodes, models = (None, None) if servers else _load_packaged(experiment, family)
    ask = partial(engine.make_forecast, nodes=nodes, models=models)
    if not printer.quiet:
        ask = partial(ask, listener=show_notice)
    try:
        forecast = anyio.run(ask, experiment, servers, typed.results)
    except DefinitionError as error:
        if nodes is not None:
            hint_at_server(error, PAINTED if models else UNASKED)
        raise
    try:
        ended_at = record.read_folder_status(folder).ended_at
    except RecordError:  # there was no run yet
        ended_at = None
    answer = {
        "schema": "sweep.plan/1",
        "state": "new" if forecast.new else "done",
        "ended_at": ended_at,
        "file": experiment.source,
        "folder": folder.as_posix(),
        **engine.encode_forecast(forecast),
        "measuring_seconds": round(_estimate_measuring(forecast), 1),
    }
    printer.print(plan_lines(forecast), answer)
    if notice and not (printer.as_json or printer.quiet):
        print_notice(notice)


def _load_packaged(experiment: Experiment, family: str) -> tuple[NodeSchemas, Sequence[Model] | None]:
    """Return the packaged nodes of a family, by default the workflow's, and the models of its servers.

    Only the sandbox's models are known.
    """
    from sweep.plan import read_own_workflow
    from sweep.sandbox import FAMILY, SandboxOptions, catalogue
    from sweep.workflow import load_packaged_schemas

    if not family and (own := read_own_workflow(experiment)):
        family = own.family
    schemas = load_packaged_schemas(family or FAMILY)
    return schemas, catalogue(SandboxOptions().models) if schemas.dialect.name == FAMILY else None
