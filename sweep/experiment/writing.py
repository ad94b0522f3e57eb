"""The experiment as it is run, as YAML that loads again from any place."""

from __future__ import annotations

import io
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from sweep.experiment.document import Place


def as_run(data: Mapping[str, Any], name: str, folder: Path, rewritten: Mapping[Place, str]) -> str:
    """`data`, with its name written out, and `folder` absolute: relative paths then mean what they meant. Paths out
    of included files stand as seen from there (`rewritten`).
    """
    from ruamel.yaml import YAML

    result = deepcopy(dict(data))
    for place, path in rewritten.items():
        _put(result, place, path)
    body = {key: value for key, value in result.items() if key not in ("name", "folder", "include")}
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.allow_unicode = True
    yaml.width = 10_000
    yaml.dump({"name": name, "folder": folder.as_posix(), **body}, stream)
    return stream.getvalue()


def _put(data: Any, place: Place, value: str) -> None:
    for part in place[:-1]:
        data = data[part]
    if isinstance(data, dict | list) and not isinstance(data[place[-1]], list):  # type: ignore[index]
        data[place[-1]] = value  # type: ignore[index]
