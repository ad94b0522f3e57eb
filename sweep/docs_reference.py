"""Generates docs/*.md (move out of the wheel: tools/)."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from typer import Context
from typer.main import get_command

from sweep.cli.commands import command_line
from sweep.cli.console import safe_streams
from sweep.experiment import experiment_schema
from sweep.roles import ROLE_TABLE

WIDTH = 80
COMMANDS_HEAD = """# Commands

Written by `python -m sweep.docs_reference`; `sweep COMMAND --help` says the same.
"""


def command_reference() -> str:
    """The page, in the order of `sweep --help`."""
    line = get_command(command_line())
    whole = Context(
        line, info_name="sweep", terminal_width=WIDTH, max_content_width=WIDTH, help_option_names=["-h", "--help"]
    )
    parts = [COMMANDS_HEAD, _block(line.get_help(whole))]
    for name in line.list_commands(whole):  # type: ignore[attr-defined]
        command = line.get_command(whole, name)  # type: ignore[attr-defined]
        context = Context(command, info_name=name, parent=whole, terminal_width=WIDTH, max_content_width=WIDTH)
        parts += [f"## sweep {name}\n", _block(command.get_help(context))]
    return "\n".join(parts)


def _block(text: str) -> str:
    lines = (line.rstrip() for line in text.strip().splitlines())
    return "```text\n" + "\n".join(lines) + "\n```\n"


if __name__ == "__main__":
    safe_streams()
    sys.stdout.write(command_reference())


HEAD = """# The experiment file

Written by `python -m sweep.docs_reference` from the models that read the file. YAML 1.2; unknown keys are errors,
and every fault of a file is told at once with its line and column. With
`# yaml-language-server: $schema=experiment.schema.json` as its first line an editor completes and checks it as you
type; `sweep schema` prints that schema. `sweep plan FILE` says what a file means before anything is rendered.

The keys of the file are roles where they can be: words such as `prompt` or `denoise_strength` that are found in any
workflow by following its edges. Any other field is named by its address, `node.field`, where a node answers to its
id, its label, or its type: `denoise.hidiffusion`, `Face Detail Scale.value`, `canny_edge_detection.low_threshold`.

Where a workflow has several of a role, a number says which, from 1 in the order `sweep inspect` lists them:
`lora_weight_2`, `control_image_1`, `prompt_2`. Without a number, `lora_weight` and the `control_…` roles set all that
no number sets. [axes.md](axes.md) shows every kind of axis by example.
"""
AXES = """## Axes

`axes:` holds one entry an axis, the slowest first. Its values are a plain list, or one of the mappings below. Each of
them also takes `target`: the role or `node.field` that the values set, or a list of these that all get the same value.
It is needed where the axis's own name is neither.
"""
_FIRST = ("name", "description", "workflow", "inputs", "axes")


def experiment_reference() -> str:
    """The page: the keys of a file, the kinds of axes, the other parts."""
    schema = experiment_schema()
    parts = schema["$defs"]
    kinds = [name for name in parts if not name.endswith("Spec")]
    keys = sorted(schema["properties"], key=lambda key: _FIRST.index(key) if key in _FIRST else len(_FIRST))
    lines = [HEAD, "## Keys\n", *_table({key: schema["properties"][key] for key in keys if key != "$schema"})]
    lines += ["", *_roles(), "", AXES]
    for name in kinds:
        lines += [f"### {_spaced(name)}\n", _text(parts[name].get("description", "")), ""]
        lines += [*_table(parts[name]["properties"]), ""]
    for name, key in (("DesignSpec", "design"), ("StudySpec", "study")):
        lines += [f"## {key}\n", _text(parts[name].get("description", "")), ""]
        lines += [*_table(parts[name]["properties"]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _roles() -> Iterator[str]:
    yield "## Roles\n"
    yield "| role | means |\n| --- | --- |"
    for name, role in ROLE_TABLE.items():
        yield f"| `{name}` | {_text(role.means)} |"


def _table(properties: Mapping[str, Any]) -> Iterator[str]:
    yield "| key | takes | default | |"
    yield "| --- | --- | --- | --- |"
    for key, about in properties.items():
        if key == "target":  # told once for all of them
            continue
        default = about.get("default")
        shown = "" if default in (None, "", [], {}) else f"`{json.dumps(default)}`"
        yield f"| `{key}` | {_takes(about)} | {shown} | {_text(about.get('description', ''))} |"


def _takes(about: Mapping[str, Any]) -> str:
    """What may stand there, in a few words."""
    if "enum" in about:
        return ", ".join(f"`{value}`" for value in about["enum"])
    if "anyOf" in about or "oneOf" in about:
        options = [
            _takes(option) for option in about.get("anyOf", about.get("oneOf", ())) if option.get("type") != "null"
        ]
        return " or ".join(dict.fromkeys(filter(None, options)))
    kind = about.get("type", "mapping" if "$ref" in about else "")
    words = {"array": "list", "object": "mapping", "string": "text", "integer": "whole number", "boolean": "yes or no"}
    return words.get(kind, kind if isinstance(kind, str) else "value") or "value"


def _spaced(name: str) -> str:
    """`CountRange` as Count range."""
    text = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()
    return text.capitalize().replace("Csv", "CSV")


def _text(text: str) -> str:
    """On one line, safe in a table; what stands in braces, or between double underscores, as code."""
    shown, depth = "", 0
    for letter in " ".join(text.split()):
        opens, closes = letter == "{", letter == "}"
        shown += "`{" if opens and depth == 0 else "}`" if closes and depth == 1 else letter
        depth += opens - closes
    parts = shown.split("`")
    parts[::2] = [re.sub(r"(__\w+__)", r"`\1`", part.replace("*", "\\*")) for part in parts[::2]]
    return "`".join(parts).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(experiment_reference())
