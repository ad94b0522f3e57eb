"""ComfyUI's node types, read from `/object_info` of a server or from the copy packaged with sweep.

Outputs have numbers for names (`"0"`, `"1"`), as links name them. A choice is spelled in two ways, `[["a", "b"], …]`
and `["COMBO", {"options": […]}]`; a choice of files that a loader loads is a model field, of uploaded files an image.
Newer servers have choices that show more inputs (`resize_type.width`), and inputs that grow (`images.image0`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from sweep.errors import WorkflowError
from sweep.workflow.node_schemas import FieldSchema, NodeSchema, read_packaged, read_table

OUTPUT_CLASS: Final = "output"  # of the node types that a prompt has to end in
_SCALARS: Final = {"INT": "integer", "FLOAT": "number", "STRING": "string", "BOOLEAN": "boolean"}
_COARSE_STEP: Final = 8  # a width or height of another multiple is changed silently by the server
_SECTIONS: Final = ("required", "optional")
_SHOWING, _GROWING = "COMFY_DYNAMICCOMBO_V3", "COMFY_AUTOGROW_V3"  # a choice that shows more inputs; inputs that grow
_MISSHAPEN: Final = (TypeError, AttributeError, KeyError, IndexError, ValueError)


@functools.cache
def load_core_nodes() -> Mapping[str, NodeSchema]:
    """Return the core node types of ComfyUI 0.3.75, as packaged with sweep."""
    return read_packaged(read_table(str(__package__), "nodes-core.json"), {})


def parse_object_info(document: Mapping[str, Any]) -> dict[str, NodeSchema]:
    """Return every node type that is described as one; a malformed one counts as missing.

    Raises WorkflowError where the document describes no nodes at all.
    """
    models = _find_models(_list_choices(document))
    found: dict[str, NodeSchema] = {}
    for kind, facts in document.items():
        with suppress(*_MISSHAPEN):
            found[kind] = _node(kind, facts, models)
    if not found:
        raise WorkflowError("The answer describes no nodes: is this a ComfyUI server?")
    return found


def list_model_files(document: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the files that loaders offer, by the type of model."""
    choices = _list_choices(document)
    found: dict[str, dict[str, None]] = {}
    for address, kind in _find_models(choices).items():
        found.setdefault(kind, {}).update(dict.fromkeys(choices[address]))
    return {kind: tuple(files) for kind, files in found.items()}


def _list_choices(document: Mapping[str, Any]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the choices of each input, by node type and name."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for node, facts in document.items():
        with suppress(*_MISSHAPEN):
            fields = [field for section in _SECTIONS for field in (facts["input"].get(section) or {}).items()]
            found |= {(str(node), str(name)): _choices(field) or () for name, field in fields}
    return found


def find_model_type(node: str, field: str) -> str | None:
    """Find the type of the models that a field of a known node type takes; most fields tell it by their names."""
    known = read_table(str(__package__), "model_fields.json")
    kind: str | None = known["by_node_and_field"].get(f"{node}.{field}") or known["by_field"].get(field)
    return kind


def _find_models(choices: Mapping[tuple[str, str], tuple[str, ...]]) -> dict[tuple[str, str], str]:
    """Return the type of model that inputs load; of custom nodes, where they offer just what a known loader offers."""
    known = {at: kind for at in choices if (kind := find_model_type(*at))}
    offered = {choices[at]: kind for at, kind in reversed(known.items()) if choices[at]}
    return {at: known.get(at) or offered[files] for at, files in choices.items() if at in known or files in offered}


def _node(kind: str, facts: Mapping[str, Any], models: Mapping[tuple[str, str], str]) -> NodeSchema:
    fields: dict[str, FieldSchema] = {}
    inputs, order = facts["input"], facts.get("input_order") or {}  # a proxy may have sorted the names of `input`
    named = {key: [*order.get(key, ()), *(inputs.get(key) or {})] for key in _SECTIONS if inputs.get(key)}
    inputs = {key: {name: inputs[key][name] for name in names if name in inputs[key]} for key, names in named.items()}
    for field in _fields(kind, inputs, models):
        known = fields.get(field.name)
        fields[field.name] = replace(known, shown_with=known.shown_with + field.shown_with) if known else field
    is_custom = str(facts.get("python_module")).startswith("custom_nodes")  # may take more than it describes
    return NodeSchema(
        type=kind,
        fields=fields,
        outputs={str(slot): _type(output) for slot, output in enumerate(facts.get("output") or ())},
        output_class=OUTPUT_CLASS if facts.get("output_node") else "",
        is_open=is_custom or any(field.type == _GROWING for field in fields.values()),
    )


def _fields(
    node: str, inputs: Mapping[str, Any], models: Mapping[tuple[str, str], str], prefix: str = ""
) -> Iterator[FieldSchema]:
    """Yield the inputs of a node and, after a choice that shows more, those of all its values, which have a prefix."""
    for section in _SECTIONS:
        for name, facts in (inputs.get(section) or {}).items():
            is_required = section == "required" and not prefix
            yield _field(prefix + name, facts, models.get((node, prefix + name)), is_required=is_required)
            for option in _options(facts)["options"] if facts[0] == _SHOWING else ():
                for field in _fields(node, option["inputs"], models, f"{prefix}{name}."):
                    yield replace(field, default=None, shown_with=field.shown_with or (option["key"],))


def _field(name: str, facts: Sequence[Any], model: str | None, *, is_required: bool) -> FieldSchema:
    options, choices = _options(facts), _choices(facts)
    default, kind = options.get("default"), options.get("widgetType", facts[0])
    if options.get("image_upload"):
        return FieldSchema(name=name, type="ImageField", required=is_required)
    if choices is not None and model is not None:
        return FieldSchema(name=name, type="ModelIdentifierField", required=is_required, model_types=(model,))
    if choices is not None:
        given = default if default in choices else next(iter(choices), None)
        is_open = is_required and given is None
        return FieldSchema(name=name, type="string", required=is_open, default=given, choices=choices)
    has_widget = kind in _SCALARS or (default is not None and _type(kind) != "any")  # also of an extension
    if options.get("forceInput") or not has_widget:
        needed = is_required and kind != _GROWING
        return FieldSchema(name=name, type=_type(kind), input="connection", required=needed)
    step = options.get("step")
    is_coarse = kind == "INT" and name in ("width", "height") and isinstance(step, int) and step >= _COARSE_STEP
    return FieldSchema(
        name=name,
        type=_SCALARS.get(kind, "any") if _SCALARS.keys() >= {*facts[0].split(",")} else "any",
        required=is_required and default is None,
        default=default,
        minimum=_number(options.get("min")),
        maximum=_number(options.get("max")),
        multiple_of=step if is_coarse else None,
    )


def _choices(facts: Any) -> tuple[str, ...] | None:
    """Return the choices of a field in either spelling; None where it is no choice."""
    if not isinstance(facts, list | tuple) or not facts:
        return None
    offered = _options(facts).get("options", ()) if facts[0] in ("COMBO", _SHOWING) else facts[0]
    if not isinstance(offered, list | tuple):
        return None
    named = (choice.get("key") if isinstance(choice, Mapping) else choice for choice in offered)
    return tuple(choice for choice in named if isinstance(choice, str))


def _options(facts: Sequence[Any]) -> Mapping[str, Any]:
    return facts[1] if len(facts) > 1 and isinstance(facts[1], Mapping) else {}


def _type(name: Any) -> str:
    """Return sweep's name of a type; a union and what anything may be put into are `any`."""
    if not isinstance(name, str) or name in ("*", "COMBO", "COMFY_MATCHTYPE_V3") or "," in name:
        return "any"
    return _SCALARS.get(name, name)


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
