"""Writes a first experiment for a workflow: commented, the roles filled in with the workflow's own values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from sweep.workflow.formats import Workflow
from sweep.workflow.graph import Graph, ModelRef, Value
from sweep.workflow.portable import FAMILIES
from sweep.workflow.roles import Roles, Target
from sweep.workflow.schemas import Model, NodeSchemas

_FIXED = (
    "prompt",
    "negative_prompt",
    "steps",
    "cfg_scale",
    "scheduler",
    "width",
    "height",
    "lora_weight",
    "control_weight",
)
_PICTURES = ("image", "control_image")
_PICTURE = "picture.png"
_MODELS = ("model", "lora")
_INDENT = "  "
_RESERVED = re.compile(r"con|prn|aux|nul|(com|lpt)\d")  # Windows keeps these names for devices


def starter(workflow: Workflow, roles: Roles, path: str, image: str = "", models: Sequence[str] = ()) -> str:
    """The YAML text of an experiment that sweeps the workflow at `path` over four seeds, and over denoise strength
    where it begins with a picture. `image` is where that picture lies, `models` are the server's main models that fit,
    where they are known: of several the first is taken. All else the workflow has set already stands there in
    comments, to be changed.
    """
    name = _plain(workflow.name) or "experiment"
    lines = [
        f"name: {name}",
        f"description: {json.dumps('What does ' + (workflow.name or 'this workflow') + ' make of its seeds?')}",
        f"workflow: {json.dumps(path, ensure_ascii=False)}",
        "",
        *_inputs(workflow, roles, image, models),
        *_settled(roles),
        *_axes(workflow, roles),
    ]
    return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"


def main_models(workflow: Workflow, schemas: NodeSchemas, models: Sequence[Model]) -> tuple[str, ...]:
    """The names of the main models that the workflow's loaders take, in alphabetical order."""
    fields = [
        field
        for node in workflow.graph.nodes.values()
        if node.type in schemas
        for field in schemas[node.type].fields.values()
        if "main" in field.model_types and field.required
    ]
    bases = {base for field in fields for base in field.model_bases} if workflow.translate is None else set(FAMILIES)
    return tuple(sorted(m.name for m in models if m.type == "main" and (not bases or m.base in bases)))


def _plain(name: str) -> str:
    """A name that is a folder's name on every system: letters, digits and dashes."""
    words = "".join(c if c.isascii() and c.isalnum() else " " for c in name.lower()).split()
    name = "-".join(words)[:60].strip("-")
    return f"{name}-sweep" if _RESERVED.fullmatch(name) else name


def _inputs(workflow: Workflow, roles: Roles, image: str, installed: Sequence[str]) -> Iterator[str]:
    graph = workflow.graph
    needed = list(_pictures(workflow, roles, image))
    chosen = _model(graph, roles, installed)
    needed += [chosen] if chosen else []
    own = [(role, value) for role in _FIXED if role in roles and (value := _held(graph, roles[role])) is not None]
    models = [
        (role, _held(graph, roles[role])) for role in _MODELS if role in roles and not (chosen and role == "model")
    ]
    yield (
        "inputs:                       # fixed for the whole experiment"
        if needed
        else "# inputs:                     # fixed for the whole experiment"
    )
    mark = "" if needed else "# "
    yield from (f"{_INDENT}{line}" for line in needed)
    for role, model in models:
        told = json.dumps(model.name) if isinstance(model, ModelRef) else "name"
        yield f"{mark or '# '}{_INDENT}{role}: {told}  # a name the server knows; left out: its only one"
    for role, value in own:
        yield f"# {_INDENT}{role}: {json.dumps(value, ensure_ascii=False)}"
    yield ""


def _pictures(workflow: Workflow, roles: Roles, image: str) -> Iterator[str]:
    """Lines for the pictures a workflow wants and does not name, or that another is wanted for."""
    for role in _PICTURES:
        if role in roles and not _held(workflow.graph, roles[role]):
            named = any(target.address in workflow.files for target in roles[role])
            if image or not named:
                yield f"{role}: {json.dumps(image or _PICTURE)}"


def _model(graph: Graph, roles: Roles, installed: Sequence[str]) -> str:
    """The line that names a main model, where the server has several and the workflow names none of them."""
    held = _held(graph, roles["model"]) if "model" in roles else None
    if "model" not in roles or len(installed) < 2 or (isinstance(held, ModelRef) and held.name in installed):
        return ""
    return f"model: {json.dumps(installed[0])}  # or {', '.join(installed[1:])}"


def _held(graph: Graph, targets: Sequence[Target]) -> Value:
    """What the workflow itself has on a role; None where nothing, or where an edge feeds it."""
    target = targets[0]
    return None if target.cut else graph.nodes[target.address.node].fields.get(target.address.field)


def _settled(roles: Roles) -> Iterator[str]:
    if not roles.ambiguous:
        return
    yield "# roles:                      # what could be meant is not clear: keep one line of each, without the #"
    for role, groups in roles.ambiguous.items():
        for group in groups:
            yield f"# {_INDENT}{role}: [{', '.join(json.dumps(str(target.address)) for target in group)}]"
    yield ""


def _axes(workflow: Workflow, roles: Roles) -> Iterator[str]:
    swept = [line for role, line in _SWEPT.items() if role in roles]
    yield f"axes:{'' if swept else ' {}'}".ljust(30) + "# the first axis varies slowest"
    yield from (f"{_INDENT}{line}" for line in swept)
    for line in _OFFERED:
        role = line.split(":")[0]
        if role in roles or (role == "variation" and "prompt" in roles):
            yield f"# {_INDENT}{line}"
    for address in workflow.exposed:
        told = workflow.labels.get(address, "on the form of the workflow")
        yield f"# {_INDENT}{json.dumps(str(address))}: []  # {told}"


_SWEPT = {
    "denoise_strength": "denoise_strength: {start: 0.2, stop: 0.8, step: 0.2}",
    "seed": "seed: {start: 42, count: 4}",
}
_OFFERED = (
    "variation: [enhanced colors and lighting, painterly effect]  # each is appended to the prompt",
    "cfg_scale: [5, 7.5, 10]",
    "steps: [10, 20, 30]",
    "scheduler: [euler, dpmpp_2m_k]",
    "lora_weight: [0, 0.5, 1]",
    "control_weight: [0, 0.5, 1]",
)
