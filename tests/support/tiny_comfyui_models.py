"""Writes models that a real ComfyUI takes for those of Stable Diffusion 1.5, a few megabytes each.

`python tiny_comfyui_models.py COMFYUI OUT` makes two checkpoints, a LoRA and a ControlNet. ComfyUI knows a model by its
shapes, so widths are real; but the network has one level, and its tensors are views of a few random pools, which
torch.save writes once. The autoencoder is set by hand: encoding is the mean of 8 by 8 pixels, decoding its inverse, so
that strength 0 keeps the image.
"""
# mypy: ignore-errors
# ruff: noqa: E402  (ComfyUI reads its arguments when it is imported)

import math
import sys
from pathlib import Path

FOLDER, OUT = Path(sys.argv[1]), Path(sys.argv[2])
sys.argv = [sys.argv[0], "--cpu"]
sys.path[:0] = [str(FOLDER), str(Path(__file__).parent)]

import torch
from serve_comfyui import declare_operators

declare_operators()
import comfy.options

comfy.options.enable_args_parsing()
import comfy.ops
from comfy.cldm.cldm import ControlNet
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.taesd.taesd import TAESD
from safetensors.torch import save_file

WIDTH, CONTEXT = 320, 768
POOL = 1 << 18  # random numbers that the tensors of one spread share
UNET = {
    "image_size": 32,
    "in_channels": 4,
    "model_channels": WIDTH,
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [1],
    "transformer_depth_middle": 1,
    "context_dim": CONTEXT,
    "num_heads": 8,
    "num_head_channels": -1,
    "use_spatial_transformer": True,
    "legacy": False,
    "use_linear_in_transformer": False,
    "dtype": torch.float32,
    "device": "meta",
    "operations": comfy.ops.disable_weight_init,
}


def unet_shapes():
    """Shapes of the denoising network."""
    network = UNetModel(**UNET, out_channels=4, transformer_depth_output=[1, 1])
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def control_shapes():
    """Shapes of the ControlNet."""
    network = ControlNet(**UNET, hint_channels=3)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def text_shapes():
    """Shapes of CLIP's text encoder."""
    shapes = {
        "embeddings.token_embedding.weight": (49408, CONTEXT),
        "embeddings.position_embedding.weight": (77, CONTEXT),
        "final_layer_norm.weight": (CONTEXT,),
        "final_layer_norm.bias": (CONTEXT,),
    }
    for layer in range(12):
        at = f"encoder.layers.{layer}."
        linear = {f"self_attn.{part}_proj": (CONTEXT, CONTEXT) for part in ("q", "k", "v", "out")}
        linear |= {"mlp.fc1": (4 * CONTEXT, CONTEXT), "mlp.fc2": (CONTEXT, 4 * CONTEXT)}
        for name, shape in linear.items():
            shapes |= {f"{at}{name}.weight": shape, f"{at}{name}.bias": shape[:1]}
        for name in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{at}{name}.weight": (CONTEXT,), f"{at}{name}.bias": (CONTEXT,)}
    return shapes


def filled(shapes, seed, prefix="", damped=()):
    """Random tensors of these shapes with a spread that keeps signals the size they are; biases are 0, norms 1."""
    pools, tensors = {}, {}
    for number, (name, shape) in enumerate(shapes.items()):
        if len(shape) < 2:
            tensors[prefix + name] = (torch.zeros(1) if name.endswith("bias") else torch.ones(1)).expand(shape)
            continue
        spread = 0.02 if "embed" in name else math.prod(shape[1:]) ** -0.5
        spread = round(spread * (0.5 if name in damped else 1), 5)
        if spread not in pools:
            generator = torch.Generator().manual_seed(seed + len(pools))
            pools[spread] = torch.randn(POOL, generator=generator) * spread
        tensors[prefix + name] = view_of(pools[spread], shape, number * 977 % 997)
    return tensors


def view_of(pool, shape, begin):
    """The pool as a tensor of this shape: rows overlap where the pool is too small for them all."""
    if math.prod(shape) + begin <= POOL:
        return pool[begin : begin + math.prod(shape)].view(shape)
    row = math.prod(shape[1:])
    step = max(1, (POOL - row - begin) // shape[0])
    return torch.as_strided(pool, shape, (step, *torch.empty(shape[1:], device="meta").stride()), begin)


def autoencoder():
    """Red, green and blue in channels 0 to 2 and their mean in 3, between 0 and 1 so that they pass every ReLU."""
    network, gain = TAESD(), 3.0
    tensors = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    tensors["vae_scale"] = torch.tensor(0.18215)
    first, last = "taesd_encoder.0.weight", len(network.taesd_encoder) - 1
    for channel in range(3):
        tensors[first][channel, channel, 1, 1] = 1
        tensors[first][3, channel, 1, 1] = 1 / 3
    for number, part in enumerate(network.taesd_encoder):
        if getattr(part, "stride", None) == (2, 2):
            for channel in range(4):
                tensors[f"taesd_encoder.{number}.weight"][channel, channel, 1:, 1:] = 0.25
    for channel in range(4):
        tensors[f"taesd_encoder.{last}.weight"][channel, channel, 1, 1] = gain
        tensors[f"taesd_encoder.{last}.bias"][channel] = -gain / 2
    for number, part in enumerate(network.taesd_decoder):
        if not isinstance(part, torch.nn.Conv2d):
            continue
        weight = tensors[f"taesd_decoder.{number}.weight"]
        is_first = part.in_channels == 4
        for channel in range(3 if part.out_channels == 3 else 4):
            weight[channel, channel, 1, 1] = 1 / gain if is_first else 1
        if is_first:
            tensors[f"taesd_decoder.{number}.bias"][:4] = 0.5
    return {"first_stage_model." + name: value for name, value in tensors.items()}


def lora(shapes):
    """A LoRA on each attention of the denoising network, in the names that ComfyUI reads."""
    generator = torch.Generator().manual_seed(7)
    tensors = {}
    for name, shape in shapes.items():
        if ".attn" in name and name.endswith("to_q.weight"):
            at = f"diffusion_model.{name.removesuffix('.weight')}"
            tensors[f"{at}.lora_A.weight"] = torch.randn(4, shape[1], generator=generator) * 0.3
            tensors[f"{at}.lora_B.weight"] = torch.randn(shape[0], 4, generator=generator) * 0.3
    return tensors


def main():
    """Write all files."""
    OUT.mkdir(parents=True, exist_ok=True)
    shapes = unet_shapes()
    for seed, name in ((1, "tiny-sd"), (100, "tiny-sd-b")):
        tensors = filled(shapes, seed, "model.diffusion_model.", damped=("out.2.weight",))
        tensors |= filled(text_shapes(), seed + 50, "cond_stage_model.transformer.text_model.")
        torch.save({"state_dict": tensors | autoencoder()}, OUT / f"{name}.ckpt")
    save_file(lora(shapes), OUT / "tiny-lora.safetensors")
    control = {name: value.half().contiguous().clone() for name, value in filled(control_shapes(), 200).items()}
    save_file(control, OUT / "tiny-controlnet.safetensors")


if __name__ == "__main__":
    main()
