"""The catalogue of models that a sandbox can offer."""

from __future__ import annotations

import hashlib
import itertools
import uuid
from collections.abc import Iterable
from typing import Any

from sweep.errors import UsageError, did_you_mean
from sweep.workflow import Model

CATALOGUE: dict[str, tuple[tuple[str, str, str], ...]] = {  # word → (name, base, type)
    "sd-1": (("sandbox-sd15", "sd-1", "main"),),
    "sd-1-b": (("sandbox-sd15-b", "sd-1", "main"),),
    "sdxl": (("sandbox-sdxl", "sdxl", "main"),),
    "sdxl-refiner": (("sandbox-sdxl-refiner", "sdxl-refiner", "main"),),
    "flux": (
        ("sandbox-flux", "flux", "main"),
        ("sandbox-t5", "any", "t5_encoder"),
        ("sandbox-clip", "any", "clip_embed"),
        ("sandbox-flux-vae", "flux", "vae"),
    ),
    "vae": (("sandbox-vae", "sd-1", "vae"), ("sandbox-sdxl-vae", "sdxl", "vae")),
    "lora": (("sandbox-ink", "sd-1", "lora"), ("sandbox-glow", "sd-1", "lora")),
    "sdxl-lora": (("sandbox-sdxl-ink", "sdxl", "lora"), ("sandbox-sdxl-glow", "sdxl", "lora")),
    "controlnet": (("sandbox-canny", "sd-1", "controlnet"), ("sandbox-depth", "sd-1", "controlnet")),
    "sdxl-controlnet": (("sandbox-sdxl-canny", "sdxl", "controlnet"),),
}
_ALL = tuple(itertools.chain.from_iterable(CATALOGUE.values()))
_NAMESPACE = uuid.UUID("5f0e4d0e-9c55-4d6e-8a5a-6f1f3a2b7c11")
_DEFAULTS = ("vae", "vae_precision", "scheduler", "steps", "cfg_scale", "cfg_rescale_multiplier", "guidance")
_SIZES = {"sd-1": 512, "sdxl": 1024, "sdxl-refiner": 1024, "flux": 1024}

ModelRecord = dict[str, Any]


def records(words: Iterable[str]) -> dict[str, ModelRecord]:
    """List the models of these words by key. Raises UsageError.

    A word is one of `CATALOGUE`, or `all` for every one, or `name:base:type`, to offer a model that another server has.
    """
    wanted: dict[str, ModelRecord] = {}
    for word in words:
        if ":" in word:
            entries: Iterable[tuple[str, str, str]] = [_parse_word(word)]
        elif word == "all":
            entries = _ALL
        elif word in CATALOGUE:
            entries = CATALOGUE[word]
        else:
            known = ", ".join(CATALOGUE)
            hint = f"The sandbox has {known} and all.{did_you_mean(word, [*CATALOGUE, 'all'])}"
            raise UsageError(f"{word} is not a model of the sandbox.", hint=hint)
        made = (_record(name, base, kind) for name, base, kind in entries)
        wanted |= {record["key"]: record for record in made}
    return wanted


def _parse_word(word: str) -> tuple[str, str, str]:
    """Split a word such as tiny-sd:sd-1:main into name, base and type; the name may hold colons."""
    name, base, kind = (part.strip() for part in word.rsplit(":", 2)) if word.count(":") > 1 else ("", "", "")
    bases, kinds = ({entry[place] for entry in _ALL} for place in (1, 2))
    if not name:
        raise UsageError(f"{word} is not a model.", hint="Write name:base:type, such as tiny-sd:sd-1:main.")
    if base not in bases:
        raise UsageError(f"The sandbox paints no {base} models.", hint=f"Bases: {', '.join(sorted(bases))}.")
    if kind not in kinds:
        raise UsageError(f"{kind} is not a type of model.", hint=f"Types: {', '.join(sorted(kinds))}.")
    return name, base, kind


def _record(name: str, base: str, kind: str) -> ModelRecord:
    record: ModelRecord = {
        "key": str(uuid.uuid5(_NAMESPACE, f"{base}/{kind}/{name}")),
        "hash": f"blake3:{hashlib.sha256(f'{base}/{kind}/{name}'.encode()).hexdigest()}",
        "path": f"sandbox/{name}",
        "file_size": 0,
        "name": name,
        "description": "Painted by sweep's sandbox, not diffused by a network.",
        "source": f"sandbox/{name}",
        "source_type": "path",
        **dict.fromkeys(("source_api_response", "source_url", "cover_image")),
        "type": kind,
        "base": base,
    }
    if kind == "main":
        size = _SIZES.get(base, 512)
        defaults = {**dict.fromkeys((*_DEFAULTS, "cpu_only", "fp8_storage")), "width": size, "height": size}
        record |= {"trigger_phrases": None, "default_settings": defaults, "format": "diffusers", "repo_variant": ""}
        record |= {"prediction_type": "epsilon", "variant": "dev" if base == "flux" else "normal"}
    elif kind == "lora":
        weights = {"weight": None, "weight_min": None, "weight_max": None}
        record |= {"trigger_phrases": None, "default_settings": weights, "format": "lycoris"}
    elif kind == "controlnet":
        record |= {"format": "diffusers", "repo_variant": "", "default_settings": {"preprocessor": None}}
    else:
        record |= {"format": "diffusers", "repo_variant": ""}
    return record


def identifier(record: ModelRecord, submodel: str | None = None) -> dict[str, Any]:
    """Build the reference by which nodes name a model: five keys, and which part of the model is meant."""
    named = {key: record[key] for key in ("key", "hash", "name", "base", "type")}
    return {**named, "submodel_type": submodel}


def catalogue(words: Iterable[str]) -> tuple[Model, ...]:
    """List the models of these words as values, to plan without a server. Raises UsageError."""
    names = ("key", "hash", "name", "base", "type")
    return tuple(Model(**{name: record[name] for name in names}) for record in records(words).values())
