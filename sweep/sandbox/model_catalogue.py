"""The catalogue of models that a sandbox can offer."""

from __future__ import annotations

import hashlib
import itertools
import json
import uuid
from collections.abc import Iterable
from dataclasses import asdict
from importlib import resources
from typing import Any

from sweep.errors import UsageError, did_you_mean
from sweep.workflow import Model

_TEXT = (resources.files(__package__) / "model_catalogue.json").read_text("utf-8")
CATALOGUE: dict[str, list[list[str]]] = json.loads(_TEXT)  # word → models, each a name, a base and a type
_ALL = list(itertools.chain.from_iterable(CATALOGUE.values()))
_NAMESPACE = uuid.UUID("5f0e4d0e-9c55-4d6e-8a5a-6f1f3a2b7c11")


def catalogue(words: Iterable[str]) -> tuple[Model, ...]:
    """List the models of these words. Raises UsageError.

    A word is one of `CATALOGUE`, or `all` for every one, or `name:base:type`, to offer a model that another server has.
    """
    return tuple(dict.fromkeys(_make_model(*model) for word in words for model in _find_models(word)))


def _find_models(word: str) -> list[list[str]]:
    """List the models of a word; in name:base:type, such as tiny-sd:sd-1:main, the name may hold colons."""
    if word in CATALOGUE or word == "all":
        return CATALOGUE.get(word, _ALL)
    if ":" not in word:
        hint = f"The sandbox has {', '.join(CATALOGUE)} and all.{did_you_mean(word, [*CATALOGUE, 'all'])}"
        raise UsageError(f"{word} is not a model of the sandbox.", hint=hint)
    name, base, kind = (part.strip() for part in word.rsplit(":", 2)) if word.count(":") > 1 else ("", "", "")
    _, bases, kinds = (sorted(set(column)) for column in zip(*_ALL, strict=True))
    if not name:
        raise UsageError(f"{word} is not a model.", hint="Write name:base:type, such as tiny-sd:sd-1:main.")
    if base not in bases:
        raise UsageError(f"The sandbox paints no {base} models.", hint=f"Bases: {', '.join(bases)}.")
    if kind not in kinds:
        raise UsageError(f"{kind} is not a type of model.", hint=f"Types: {', '.join(kinds)}.")
    return [[name, base, kind]]


def _make_model(name: str, base: str, kind: str) -> Model:
    path = f"{base}/{kind}/{name}"
    digest = hashlib.sha256(path.encode()).hexdigest()
    return Model(key=str(uuid.uuid5(_NAMESPACE, path)), hash=f"blake3:{digest}", name=name, base=base, type=kind)


def identifier(model: Model) -> dict[str, Any]:
    """Build the reference by which nodes name a model."""
    return {**asdict(model), "submodel_type": None}
