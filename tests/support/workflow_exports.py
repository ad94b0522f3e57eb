"""Small exports as InvokeAI's workflow editor writes them, made here."""

from __future__ import annotations

from typing import Any

MODEL = {"key": "a1", "hash": "blake3:00", "name": "tiny-sd", "base": "sd-1", "type": "main"}


def invocation(name: str, kind: str, label: str = "", /, **values: Any) -> dict[str, Any]:
    """One node of the editor; a value of `...` is an input without a value."""
    inputs = {
        field: {"name": field, "label": "", **({} if value is ... else {"value": value})}
        for field, value in values.items()
    }
    return {
        "id": name,
        "type": "invocation",
        "position": {"x": 1.5, "y": 2},
        "data": {
            "id": name,
            "type": kind,
            "version": "1.0.0",
            "nodePack": "invokeai",
            "label": label,
            "notes": "",
            "inputs": inputs,
            "isOpen": True,
            "isIntermediate": True,
            "useCache": True,
        },
    }


def drawn(name: str, kind: str) -> dict[str, Any]:
    """A node that is only drawn: notes, a connector, the image of the moment."""
    return {"id": name, "type": kind, "position": {"x": 0, "y": 0}, "data": {"id": name, "type": kind, "label": kind}}


def edge(text: str, kind: str = "default", **more: Any) -> dict[str, Any]:
    """An edge written `a.out → b.in`."""
    source, target = (end.strip().rsplit(".", 1) for end in text.split("→"))
    ends = {"source": source[0], "sourceHandle": source[1], "target": target[0], "targetHandle": target[1]}
    return {"id": f"reactflow__{text}", "type": kind, **ends, **more}


def export(
    nodes: list[dict[str, Any]], edges: list[dict[str, Any]], version: str = "4.0.0", **more: Any
) -> dict[str, Any]:
    """A whole export."""
    return {
        "name": "My workflow",
        "author": "",
        "description": "",
        "version": "",
        "contact": "",
        "tags": "",
        "notes": "",
        "exposedFields": [],
        "meta": {"version": version, "category": "user"},
        "nodes": nodes,
        "edges": edges,
        **more,
    }


def text_to_image(**denoise: Any) -> dict[str, Any]:
    """What a person draws first: a prompt, its opposite, random noise, and an image."""
    nodes = [
        invocation("m", "main_model_loader", model=dict(MODEL)),
        invocation("p", "compel", "Positive", prompt="a tiger cub", clip=..., mask=None),
        invocation("n", "compel", "Negative", prompt="", clip=...),
        invocation("z", "noise", seed=0, width=64, height=96, use_cpu=True),
        invocation("r", "rand_int", low=0, high=2147483647),
        invocation("d", "denoise_latents", steps=5, cfg_scale=7.5, scheduler="euler", denoising_start=0, **denoise),
        invocation("o", "l2i", board="auto", metadata=..., tiled=False),
    ]
    nodes[-1]["data"]["isIntermediate"] = False
    edges = [
        edge("m.unet → d.unet"),
        edge("m.clip → p.clip"),
        edge("m.clip → n.clip"),
        edge("m.vae → o.vae"),
        edge("p.conditioning → d.positive_conditioning"),
        edge("n.conditioning → d.negative_conditioning"),
        edge("r.value → z.seed"),
        edge("z.noise → d.noise"),
        edge("d.latents → o.latents", hidden=True),
        edge("p.x → d.x", "collapsed"),
    ]
    return export(nodes, edges)
