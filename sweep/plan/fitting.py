"""Makes a graph fit this server's models: names in the place of installation keys, and what it lacks where one fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sweep.errors import PlanError
from sweep.plan.models import Models, called
from sweep.plan.shapes import model_fields
from sweep.workflow.graph import Address, Graph, ModelRef, Value
from sweep.workflow.schemas import Model, NodeSchemas

_ANY: Final = "any"
_PASSIVE: Final = frozenset({"core_metadata"})  # it describes, it loads nothing


@dataclass(frozen=True, slots=True)
class Fitted:
    """A graph whose models are references, and what was put in where it named none."""

    graph: Graph
    filled: Mapping[Address, ModelRef]


def fit_models(
    graph: Graph, schemas: NodeSchemas, models: Models, main: ModelRef | None, fault: Callable[[Address, str], None]
) -> Fitted:
    """The graph with every model named as a ModelRef. `main` goes into main model fields that say nothing.

    A field that says nothing gets the only installed model that fits it (but a second main model, such as one for the
    last steps, only where it is required); a required one for which there is not exactly one is a `fault`, told as the
    end of a sentence that begins with the address.
    """
    values: dict[Address, Value] = {}
    filled: dict[Address, ModelRef] = {}
    for address, types in model_fields(graph, schemas):
        node = graph.nodes[address.node]
        said = node.fields.get(address.field)
        if node.type in _PASSIVE:
            continue
        field = schemas[node.type].fields[address.field]
        bases = _bases(field.model_bases, types, main)
        try:
            if said:
                values[address] = _known(said, types, models)
            elif main and "main" in types and field.required:
                values[address] = filled[address] = main
            elif "main" not in types and (only := _only(models, types, bases)) is not None:
                values[address] = filled[address] = only
            elif field.required:
                fault(address, _lack(models, types, bases))
        except PlanError as error:
            fault(address, error.message)
    return Fitted(graph.set(values), filled)


def _bases(taken: tuple[str, ...], types: tuple[str, ...], main: ModelRef | None) -> tuple[str, ...]:
    """The bases of models that may go into a field: the main model's, where the field takes that."""
    if main is not None and "main" not in types and (not taken or main.base in taken):
        return (main.base,)
    return taken


def own_model(graph: Graph, schemas: NodeSchemas, models: Models) -> ModelRef | None:
    """The main model a graph names itself, where this server has it."""
    for address, types in model_fields(graph, schemas):
        said = graph.nodes[address.node].fields.get(address.field)
        if "main" in types and said:
            return _known(said, types, models)
    return None


def main_fields(graph: Graph, schemas: NodeSchemas) -> list[Address]:
    """The fields from which the graph loads its main models."""
    return [
        address
        for address, types in model_fields(graph, schemas)
        if "main" in types and graph.nodes[address.node].type not in _PASSIVE
    ]


def main_bases(graph: Graph, schemas: NodeSchemas) -> tuple[str, ...] | None:
    """The bases of main models the graph can load, empty for any; None where it loads none."""
    found = [schemas[graph.nodes[address.node].type].fields[address.field] for address in main_fields(graph, schemas)]
    needed = [field for field in found if field.required]
    return (needed or found)[0].model_bases if found else None


def _known(said: Value, types: tuple[str, ...], models: Models) -> ModelRef:
    """The model that a graph written for some installation names: by its key there or, elsewhere, by its name."""
    if not isinstance(said, Mapping):
        return models.find(said, types)
    key, name, base = (str(said.get(part) or "") for part in ("key", "name", "base"))
    if any(model.key == key for model in models.installed):
        return models.find(key, types)
    if not name:
        raise PlanError("names a model of another server by its key alone; name it by inputs.model or its address.")
    return models.find(f"{name}@{base}" if base else name, types)


def _fitting(models: Models, types: tuple[str, ...], bases: tuple[str, ...]) -> list[Model]:
    return [
        model
        for model in models.installed
        if (not types or model.type in types) and (not bases or model.base in bases or model.base == _ANY)
    ]


def _only(models: Models, types: tuple[str, ...], bases: tuple[str, ...]) -> ModelRef | None:
    fitting = _fitting(models, types, bases)
    return ModelRef(fitting[0].name, fitting[0].base, fitting[0].type) if len(fitting) == 1 else None


def _lack(models: Models, types: tuple[str, ...], bases: tuple[str, ...]) -> str:
    kind = "main model" if tuple(types) == ("main",) else called(types)
    article = "an" if kind[0] in "AEIOaeio" else "a"
    fitting = _fitting(models, types, bases)
    if not fitting:
        where = f" for {' or '.join(bases)}" if bases else ""
        return f"needs {article} {kind}{where}, and the server has none."
    return f"needs {article} {kind}; the server has {', '.join(model.name for model in fitting)}."
