"""Official editor templates, converted and checked by a real server's own validation, subgraphs among them."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from PIL import Image

from sweep.workflow import (
    Graph,
    ImageRef,
    ModelRef,
    NodeSchemas,
    Ref,
    fill_defaults,
    find_roles,
    read_object_info,
    write_prompt,
)
from sweep.workflow.comfyui.comfyui_dialect import COMFYUI
from tests.live.comfyui.template_roles import ROLES
from tests.support.live_comfyui import LiveComfyUI

DRAWN = {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}
FOLDERS = {  # field → the folder of its models
    "ckpt_name": "checkpoints",
    "unet_name": "diffusion_models",
    "lora_name": "loras",
    "vae_name": "vae",
    "control_net_name": "controlnet",
    "style_model_name": "style_models",
    "model_name": "upscale_models",
    "name": "model_patches",
    "audio_encoder_name": "audio_encoders",
}
MEDIA = {".mp4", ".webm", ".png", ".jpg", ".webp", ".mp3", ".wav", ".flac"}  # files that a workflow names
REFUSED = {  # what these need came after 0.3.75
    "image_kandinsky5_t2i.json": "kandinsky5_image",
    "image_newbieimage_exp0_1-t2i.json": "newbie",
    "image_ovis_text_to_image.json": "ovis",
}


def templates(nodes: NodeSchemas) -> Iterator[tuple[str, dict[str, Any]]]:
    """Those of which the server knows every node."""
    spec = importlib.util.find_spec("comfyui_workflow_templates_json")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    for path in sorted(Path(next(iter(spec.submodule_search_locations))).rglob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(document, dict) and document.get("nodes") and kinds(document) <= set(nodes) | DRAWN:
            yield path.name, document


def kinds(document: dict[str, Any]) -> set[str]:
    subgraphs = {str(each["id"]): each for each in (document.get("definitions") or {}).get("subgraphs") or []}
    found = {str(node["type"]) for each in (document, *subgraphs.values()) for node in each.get("nodes") or []}
    return found - set(subgraphs)


def model_folder(kind: str, field: str) -> str:
    if field.startswith("clip_name"):
        return "clip_vision" if "Vision" in kind else "text_encoders"
    return FOLDERS.get(field, "checkpoints")


def refusals(server: LiveComfyUI, prompt: dict[str, Any]) -> str:
    """What the server has against the prompt, which cannot be queued as its outputs lack a name."""
    try:
        server.ask("POST", "/prompt", {"prompt": prompt})
    except HTTPError as error:
        answer = json.loads(error.read())
    else:
        return "queued"
    errors = [e for node in answer["node_errors"].values() for e in node["errors"]]
    names = [e for e in errors if e.get("extra_info", {}).get("input_name") != "filename_prefix"]
    return json.dumps(names or answer["error"]) if names or not errors else ""


def test_official_templates_convert_to_what_the_server_takes(other_comfyui: LiveComfyUI) -> None:
    schemas = read_object_info(other_comfyui.ask("GET", "/object_info"))
    accepted: dict[str, str] = {}
    sampled: dict[str, str] = {}
    for name, document in templates(schemas):
        read = COMFYUI.read(document, name)
        assert read is not None
        workflow = COMFYUI.translate(read, schemas)
        files: dict[Ref, str] = {}
        for node in workflow.graph.nodes.values():
            for field, value in node.fields.items():
                if isinstance(value, ModelRef):
                    place = other_comfyui.root / "models" / model_folder(node.type, field) / value.name
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.touch()
                    files[value] = value.name
                elif isinstance(value, str) and Path(value).suffix in MEDIA:
                    (other_comfyui.root / "input" / Path(value).name).touch()
        graph = workflow.graph
        for address, file in workflow.files.items():
            Image.new("RGB", (8, 8)).save(other_comfyui.root / "input" / "any.png")
            shutil.copy(other_comfyui.root / "input" / "any.png", other_comfyui.root / "input" / Path(file).name)
            graph = graph.set({address: ImageRef(Path(file).name)})
        prompt = write_prompt(graph, lambda ref, files=files: ref.sha256 if isinstance(ref, ImageRef) else files[ref])  # type: ignore[misc]
        fill_defaults(prompt, schemas)
        ends = [key for key, node in prompt.items() if schemas[node["class_type"]].output_class == "output"]
        for key in ends:
            if prompt[key]["class_type"] == "PreviewImage":
                prompt[key]["class_type"] = "SaveImage"
            if "filename_prefix" in schemas[prompt[key]["class_type"]].fields:
                prompt[key]["inputs"].pop("filename_prefix", None)
            else:
                del prompt[key]
        accepted[name] = refusals(other_comfyui, prompt)
        if COMFYUI.find_outputs(workflow.graph, schemas) and (found := describe_roles(workflow.graph, schemas)):
            sampled[name.removesuffix(".json")] = found
    refused = {name: why for name, why in accepted.items() if why}
    assert len(accepted) == 89
    assert set(refused) == set(REFUSED), {name: why[:300] for name, why in refused.items() if name not in REFUSED}
    assert all(REFUSED[name] in why for name, why in refused.items())
    assert sampled == {name: roles for roles, names in ROLES.items() for name in names}


def describe_roles(graph: Graph, schemas: NodeSchemas) -> str:
    """The roles as the table has them; empty for a graph that samples nothing."""
    roles = find_roles(graph, schemas)
    several = [f"{role}*{len(groups)}" for role, groups in sorted(roles.ambiguous.items())]
    return " ".join([*sorted(roles.targets), *several]) if roles.groups("steps") else ""
