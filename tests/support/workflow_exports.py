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


def image_to_image() -> dict[str, Any]:
    """An artist's img2img workflow: own labels, a photograph that only the editor knows, a random seed."""
    nodes = [
        invocation("m", "main_model_loader", "Model", model=dict(MODEL)),
        invocation("p", "compel", "What I see", prompt="a harbour in the morning", clip=..., mask=None),
        invocation("n", "compel", "What I do not want", prompt="blurry", clip=..., mask=None),
        invocation("photo", "image", "My photo", image=...),
        invocation("fit", "img_resize", image=..., width=64, height=64, resample_mode="bicubic"),
        invocation("e", "i2l", image=..., vae=..., tiled=False, fp32=False),
        invocation("r", "rand_int", low=0, high=2147483647),
        invocation("z", "noise", seed=0, width=64, height=64, use_cpu=True),
        invocation("d", "denoise_latents", steps=4, cfg_scale=7.5, scheduler="euler", denoising_start=0.4),
        invocation("o", "l2i", board="auto", metadata=..., tiled=False, fp32=False),
        drawn("note", "notes"),
    ]
    nodes[-2]["data"]["isIntermediate"] = False
    edges = [
        edge("m.unet → d.unet"),
        edge("m.clip → p.clip"),
        edge("m.clip → n.clip"),
        edge("m.vae → e.vae"),
        edge("m.vae → o.vae"),
        edge("photo.image → fit.image"),
        edge("fit.image → e.image"),
        edge("e.latents → d.latents"),
        edge("r.value → z.seed"),
        edge("z.noise → d.noise"),
        edge("p.conditioning → d.positive_conditioning"),
        edge("n.conditioning → d.negative_conditioning"),
        edge("d.latents → o.latents"),
    ]
    return export(nodes, edges, name="My portrait")


def comfyui_image_to_image() -> dict[str, Any]:
    """The same as ComfyUI's editor saves it: widgets by order, links by number, a note, a reroute."""

    def node(
        number: int, kind: str, widgets: list[Any], inputs: dict[str, int], outputs: list[str], title: str = ""
    ) -> dict[str, Any]:
        links = [{"name": name, "type": "*", "link": link} for name, link in inputs.items()]
        given = [{"name": name, "type": name, "links": []} for name in outputs]
        values = {"id": number, "type": kind, "mode": 0, "widgets_values": widgets, "inputs": links, "outputs": given}
        return values | ({"title": title} if title else {})

    return {
        "last_node_id": 11,
        "last_link_id": 12,
        "nodes": [
            node(1, "CheckpointLoaderSimple", ["tiny-sd.ckpt"], {}, ["MODEL", "CLIP", "VAE"]),
            node(2, "CLIPTextEncode", ["a harbour in the morning"], {"clip": 2}, ["CONDITIONING"], "What I see"),
            node(3, "CLIPTextEncode", ["blurry"], {"clip": 3}, ["CONDITIONING"], "What I do not want"),
            node(4, "LoadImage", ["only-in-the-editor.png", "image"], {}, ["IMAGE", "MASK"], "My photo"),
            node(5, "ImageScale", ["bilinear", 64, 64, "disabled"], {"image": 4}, ["IMAGE"]),
            node(6, "VAEEncode", [], {"pixels": 5, "vae": 6}, ["LATENT"]),
            node(
                7,
                "KSampler",
                [5, "randomize", 4, 8, "euler", "normal", 0.6],
                {"model": 1, "positive": 7, "negative": 8, "latent_image": 9},
                ["LATENT"],
            ),
            node(8, "Reroute", [], {"": 10}, ["LATENT"]),
            node(9, "VAEDecode", [], {"samples": 11, "vae": 12}, ["IMAGE"]),
            node(10, "SaveImage", ["ComfyUI"], {"images": 13}, []),
            node(11, "Note", ["my notes"], {}, []),
        ],
        "links": [
            [1, 1, 0, 7, 0, "MODEL"],
            [2, 1, 1, 2, 0, "CLIP"],
            [3, 1, 1, 3, 0, "CLIP"],
            [4, 4, 0, 5, 0, "IMAGE"],
            [5, 5, 0, 6, 0, "IMAGE"],
            [6, 1, 2, 6, 1, "VAE"],
            [7, 2, 0, 7, 1, "CONDITIONING"],
            [8, 3, 0, 7, 2, "CONDITIONING"],
            [9, 6, 0, 7, 3, "LATENT"],
            [10, 7, 0, 8, 0, "LATENT"],
            [11, 8, 0, 9, 0, "LATENT"],
            [12, 1, 2, 9, 1, "VAE"],
            [13, 9, 0, 10, 0, "IMAGE"],
        ],
        "version": 0.4,
    }
