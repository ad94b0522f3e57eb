"""Finds the installed model that a name means, and fits graphs to the models of a server.

A graph written elsewhere names installation keys: here they become names, and what a graph leaves open is filled where
exactly one installed model fits. Models that a portable workflow names and the server lacks are replaced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from sweep.errors import PlanError, did_you_mean
from sweep.workflow import Address, FieldSchema, Graph, Model, ModelRef, NodeSchemas, Value, Workflow

_CALLED = {
    "main": "model",
    "lora": "LoRA",
    "vae": "VAE",
    "controlnet": "ControlNet",
    "t5_encoder": "T5 encoder",
    "clip_embed": "CLIP encoder",
    "ip_adapter": "IP adapter",
    "t2i_adapter": "T2I adapter",
    "embedding": "textual inversion",
}
_MODEL_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".sft", ".gguf")
_ANY = "any"  # the base of models that fit every family


@dataclass(frozen=True, slots=True)
class ModelFinder:
    """Finds models of some servers by the names that people use; where those are not known, it takes every name."""

    installed: tuple[Model, ...]
    is_known: bool = True

    @classmethod
    def of(cls, models: Sequence[Model] | None) -> ModelFinder:
        """Find among these models; None where those of the server are not known."""
        installed = sorted(models or (), key=lambda model: (model.type, model.name, model.base))
        return cls(tuple(installed), models is not None)

    def list_fitting(self, types: Collection[str] = (), bases: Collection[str] = ()) -> list[Model]:
        """List the installed models of these types and bases (any, if empty).

        Of each name, base and type there is one: several servers may have it, under keys of their own.
        """
        fitting = [
            model
            for model in self.installed
            if (not types or model.type in types) and (not bases or model.base in bases)
        ]
        return list({_make_ref(model): model for model in fitting}.values())

    def find_any_main(self, bases: Collection[str] = ()) -> ModelRef | None:
        """Return some main model, to check the rest of an experiment whose own model is wrong."""
        return next(map(_make_ref, self.list_fitting(("main",), bases)), None)

    def find_only_main(self, bases: Collection[str] = (), wanted: str = "") -> ModelRef:
        """Return the server's only main model of these bases (any, if empty).

        `wanted` is the one the workflow names, which is not there. Raises PlanError where there is none, or several.
        """
        if not self.is_known:
            return ModelRef(wanted or "the server's only model", next(iter(bases), _ANY), "main")
        mains = self.list_fitting(("main",), bases)
        kind = f"main model for {' or '.join(bases)}" if {*bases} - {_ANY} else "main model"
        lacking = f"the workflow names {wanted}, which the server does not have; " if wanted else ""
        if not mains:
            raise PlanError(f"{lacking}{'it' if lacking else 'the server'} has no {kind} installed.")
        if len(mains) > 1:
            plural = kind.replace("model", "models", 1)
            who = "it" if lacking else "the server"
            raise PlanError(f"{lacking}{who} has {len(mains)} {plural}; name one: {_join_names(mains)}.")
        return _make_ref(mains[0])

    def find(self, written: object, types: Sequence[str] = ("main",), base: str | None = None) -> ModelRef:
        """Find the one model of these types (any, if empty) that `written` names: a name, `name@base`, or a key.

        `base`, where given, is the base of the main model it has to fit. Raises PlanError.
        """
        if isinstance(written, ModelRef):
            written = f"{written.name}@{written.base}" if written.base else written.name
        if isinstance(written, Mapping):
            name, of = written.get("name"), written.get("base")
            written = f"{name}@{of}" if of else name
        if not isinstance(written, str) or not written.strip():
            raise PlanError(f"takes the name of a {_describe_types(types)}, not {written!r}.")
        word = written.strip()
        if not self.is_known:
            name, _, of = word.partition("@")
            return ModelRef(name, of or base or _ANY, next(iter(types), "main"))
        by_key = [model for model in self.installed if model.key == word]
        by_name = [model for model in self.installed if model.name == word]
        name, at, of = word.rpartition("@")
        by_both = [model for model in self.installed if at and (model.name, model.base) == (name, of)]
        by_stem = [model for model in self.installed if _strip_folder(model.name) == _strip_folder(word)]
        named = by_key or by_name or by_both or by_stem
        fitting = [model for model in named if not types or model.type in types]
        if not fitting:
            raise PlanError(self._describe_unknown(word, named, types))
        based = [model for model in fitting if base is None or model.base in (base, _ANY)]
        if not based:
            bases = " and ".join(sorted({model.base for model in fitting}))
            raise PlanError(f"{word} is made for {bases}; the model is {base}.")
        if len({_make_ref(model) for model in based}) > 1:
            raise PlanError(f"{word} names {len(based)} models; write one of {_join_names(based)}.")
        return _make_ref(based[0])

    def _describe_unknown(self, word: str, named: Sequence[Model], types: Sequence[str]) -> str:
        if named:
            return f"{word} is a {_describe_types([named[0].type])}, not a {_describe_types(types)}."
        kind = _describe_types(types)
        have = self.list_fitting(types)
        if not have:
            return f"the server has no {kind} named {word}, and no other {kind} either."
        names = [model.name for model in have]
        others = did_you_mean(word, names) or f" It has {_join_names(have)}."
        return f"the server has no {kind} named {word}.{others}"


def _strip_folder(name: str) -> str:
    """Return the name of a model's file without folders and ending: what people call it."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return next((last.removesuffix(ending) for ending in _MODEL_FILES if last.endswith(ending)), last)


def _make_ref(model: Model) -> ModelRef:
    return ModelRef(name=model.name, base=model.base, type=model.type)


def _describe_types(types: Sequence[str]) -> str:
    """Name models of these types as people do: a LoRA, a T5 encoder."""
    return " or ".join(_CALLED.get(kind, kind) for kind in types) or "model"


def _join_names(models: Sequence[Model], most: int = 12) -> str:
    """Join their names, with the base where a name appears twice."""
    names = [model.name for model in models]
    shown = [model.name if names.count(model.name) == 1 else f"{model.name}@{model.base}" for model in models]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def list_model_fields(graph: Graph, schemas: NodeSchemas) -> Iterator[tuple[Address, FieldSchema]]:
    """List every field of the graph that holds a model and is not fed by an edge."""
    fed = {edge.destination for edge in graph.edges}
    for node in graph.nodes.values():
        schema = schemas.get(node.type)
        for name, taken in schema.fields.items() if schema else ():
            if taken.type == "ModelIdentifierField" and Address(node.id, name) not in fed:
                yield Address(node.id, name), taken


def fit_models(
    graph: Graph,
    schemas: NodeSchemas,
    models: ModelFinder,
    main: ModelRef | None,
    problem: Callable[[Address, str], None],
) -> tuple[Graph, dict[Address, ModelRef]]:
    """Return the graph with every model named as a ModelRef, and what was put in where it named none.

    A field that says nothing gets `main` where it takes a main model, else the only installed model that fits it (but a
    second main model, such as one for the last steps, only where it is required). A required field for which there is
    not exactly one is a `problem`, given as the end of a sentence that begins with the address.
    """
    values: dict[Address, Value] = {}
    filled: dict[Address, ModelRef] = {}
    for address, field in list_model_fields(graph, schemas):
        node = graph.nodes[address.node]
        if node.type in schemas.dialect.descriptive_nodes:
            continue
        said = node.fields.get(address.field)
        types, bases = field.model_types, field.model_bases
        if main is not None and "main" not in types and (not bases or main.base in bases):
            bases = (main.base,)
        fitting = models.list_fitting(types, (*bases, _ANY) if bases else ())
        try:
            if said:
                values[address] = _find_known(said, types, models)
            elif main and "main" in types and field.required:
                values[address] = filled[address] = main
            elif "main" not in types and len(fitting) == 1:
                values[address] = filled[address] = _make_ref(fitting[0])
            elif field.required:
                problem(address, _describe_lack(models, fitting, types, bases))
        except PlanError as error:
            problem(address, error.message)
    return graph.set(values), filled


def find_own_model(graph: Graph, schemas: NodeSchemas, models: ModelFinder) -> ModelRef | None:
    """Find the main model a graph names itself. Raises PlanError where this server does not have it."""
    for address, field in list_main_fields(graph, schemas).items():
        if said := graph.nodes[address.node].fields.get(address.field):
            return _find_known(said, field.model_types, models)
    return None


def list_main_fields(graph: Graph, schemas: NodeSchemas) -> dict[Address, FieldSchema]:
    """List the fields from which the graph loads its main models."""
    return {
        address: field
        for address, field in list_model_fields(graph, schemas)
        if "main" in field.model_types and graph.nodes[address.node].type not in schemas.dialect.descriptive_nodes
    }


def list_main_bases(graph: Graph, schemas: NodeSchemas) -> tuple[str, ...] | None:
    """List the bases of main models the graph can load, none for any base; None where it loads no main model."""
    found = list(list_main_fields(graph, schemas).values())
    needed = [field for field in found if field.required]
    return (needed or found)[0].model_bases if found else None


def _find_known(said: Value, types: tuple[str, ...], models: ModelFinder) -> ModelRef:
    """Find the model that a graph of another installation names: by its key or, elsewhere, by its name."""
    if isinstance(said, Mapping):
        key = str(said.get("key") or "")
        if any(model.key == key for model in models.installed):
            return models.find(key, types)
        if not said.get("name"):
            raise PlanError("names a model of another server by its key alone; name it by inputs.model or its address.")
    return models.find(said, types)


def _describe_lack(
    models: ModelFinder, fitting: Sequence[Model], types: tuple[str, ...], bases: tuple[str, ...]
) -> str:
    kind = "main model" if tuple(types) == ("main",) else _describe_types(types)
    article = "an" if kind[0] in "AEIOaeio" else "a"
    if not models.is_known:
        return f"needs {article} {kind}; name one, or the server with --server."
    if not fitting:
        where = f" for {' or '.join(bases)}" if bases else ""
        return f"needs {article} {kind}{where}, and the server has none."
    return f"needs {article} {kind}; the server has {_join_names(fitting)}."


def substitute_models(workflow: Workflow, schemas: NodeSchemas, models: ModelFinder, uses: Container[str]) -> Workflow:
    """Substitute models that a portable workflow names and the server lacks.

    The main model is left open for the plan to choose (`lacking` is its name), and the VAE becomes the main model's
    own, with a note. Any other workflow stays as it is: it names what its author rendered with, and another model would
    be another image.
    """
    translate = workflow.translate
    if translate is None:
        return workflow

    def substitute(own: Workflow) -> Workflow:
        graph, notes, lacking = own.graph, list(own.notes), ""
        for address, field in list(list_model_fields(graph, schemas)):
            node, types = graph.nodes[address.node], field.model_types
            said = node.fields.get(address.field)
            if not isinstance(said, ModelRef):
                continue
            with suppress(PlanError):
                models.find(said, types)
                continue
            if "main" in types:
                fields = {name: value for name, value in node.fields.items() if name != address.field}
                graph = replace(graph, nodes={**graph.nodes, node.id: replace(node, fields=fields)})
                lacking = said.name
            elif "vae" in types and "vae" not in uses:
                graph = schemas.dialect.remove_vae_loader(graph, address.node)
                notes.append(
                    f"The server has no VAE {said.name}, so the model's own is used; inputs.vae names another."
                )
        return replace(own, graph=graph, notes=tuple(notes), lacking=lacking)

    return replace(substitute(workflow), translate=lambda base: substitute(translate(base)))


def index_models(*catalogues: Sequence[Model]) -> dict[ModelRef, Model]:
    """Index the models of some servers by name, base and type.

    Of several that share them on one server that of the smallest key counts, as for clients; over all servers those
    weights which most have, and of as many the first by their hash.
    """
    found: dict[ModelRef, list[Model]] = {}
    for models in catalogues:
        descending = sorted(models, key=lambda model: model.key, reverse=True)
        for ref, model in {ModelRef(model.name, model.base, model.type): model for model in descending}.items():
            found.setdefault(ref, []).append(model)
    votes = {ref: Counter(model.hash for model in several) for ref, several in found.items()}
    return {
        ref: min(several, key=lambda model: (-votes[ref][model.hash], model.hash, model.key))
        for ref, several in found.items()
    }
