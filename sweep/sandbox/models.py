"""Models that a sandbox offers: names that say sandbox, and records of the shape InvokeAI gives."""

from __future__ import annotations

import hashlib
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
_NAMESPACE = uuid.UUID("5f0e4d0e-9c55-4d6e-8a5a-6f1f3a2b7c11")
_MAIN_DEFAULTS: dict[str, Any] = {
    "vae": None,
    "vae_precision": None,
    "scheduler": None,
    "steps": None,
    "cfg_scale": None,
    "cfg_rescale_multiplier": None,
    "guidance": None,
    "cpu_only": None,
    "fp8_storage": None,
}
_SIZES = {"sd-1": 512, "sdxl": 1024, "sdxl-refiner": 1024, "flux": 1024}

ModelRecord = dict[str, Any]


def records(words: Iterable[str]) -> dict[str, ModelRecord]:
    """List the models of these words by key. Raises UsageError.

    A word is one of `CATALOGUE`, or `all` for every one, or `name:base:type`, to offer a model that another server has.
    """
    wanted: dict[str, ModelRecord] = {}
    for word in words:
        if ":" in word:
            record = _record(*_parse_word(word))
            wanted[record["key"]] = record
            continue
        if word != "all" and word not in CATALOGUE:
            known = ", ".join(CATALOGUE)
            hint = f"The sandbox has {known} and all.{did_you_mean(word, [*CATALOGUE, 'all'])}"
            raise UsageError(f"{word} is not a model of the sandbox.", hint=hint)
        for entry in CATALOGUE if word == "all" else (word,):
            for name, base, kind in CATALOGUE[entry]:
                record = _record(name, base, kind)
                wanted[record["key"]] = record
    return wanted


def _parse_word(word: str) -> tuple[str, str, str]:
    """(name, base, type) of a word such as tiny-sd:sd-1:main; the name may hold colons."""
    name, base, kind = (part.strip() for part in word.rsplit(":", 2)) if word.count(":") > 1 else ("", "", "")
    bases = {entry[1] for entries in CATALOGUE.values() for entry in entries}
    kinds = {entry[2] for entries in CATALOGUE.values() for entry in entries}
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
        "source_api_response": None,
        "source_url": None,
        "cover_image": None,
        "type": kind,
    }
    if kind == "main":
        size = _SIZES.get(base, 512)
        defaults = {**_MAIN_DEFAULTS, "width": size, "height": size}
        record |= {"trigger_phrases": None, "default_settings": defaults, "format": "diffusers", "repo_variant": ""}
        record |= {"prediction_type": "epsilon", "variant": "dev" if base == "flux" else "normal"}
    elif kind == "lora":
        weights = {"weight": None, "weight_min": None, "weight_max": None}
        record |= {"trigger_phrases": None, "default_settings": weights, "format": "lycoris"}
    elif kind == "controlnet":
        record |= {"format": "diffusers", "repo_variant": "", "default_settings": {"preprocessor": None}}
    else:
        record |= {"format": "diffusers", "repo_variant": ""}
    return {**record, "base": base}


def identifier(record: ModelRecord, submodel: str | None = None) -> dict[str, Any]:
    """Build the reference by which nodes name a model: five keys, and the part of it."""
    named = {key: record[key] for key in ("key", "hash", "name", "base", "type")}
    return {**named, "submodel_type": submodel}


def catalogue(words: Iterable[str]) -> tuple[Model, ...]:
    """Return the same models as values, to plan without a server."""
    return tuple(
        Model(key=record["key"], hash=record["hash"], name=record["name"], base=record["base"], type=record["type"])
        for record in records(words).values()
    )
