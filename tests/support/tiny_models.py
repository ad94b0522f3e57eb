"""Makes tiny models that a real InvokeAI installs and runs: `python tiny_models.py FOLDER`, by the server's Python.

FOLDER/tiny-sd                 Stable Diffusion 1 pipeline       base sd-1, type main
FOLDER/tiny-sdxl               Stable Diffusion XL pipeline      base sdxl, type main
FOLDER/tiny-controlnet         ControlNet of tiny-sd             base sd-1, type controlnet
FOLDER/tiny-lora.safetensors        LoRA of tiny-sd              base sd-1, type lora
FOLDER/tiny-sdxl-lora.safetensors   LoRA of tiny-sdxl            base sdxl, type lora

All parts run: tokenizer, text encoders, UNet, scheduler, VAE. The VAE beside this file was trained on procedural
images and gives back what it is shown, a little blurred. The UNets are random and damped, so that strength works in
the right direction: at 0.1 the source stays, at 0.9 it drowns in noise that the seed decides. The CLIP vocabulary comes
with the open_clip_torch package.
"""
# mypy: ignore-errors

import gzip
import importlib.util
import json
import sys
from pathlib import Path

import operators
import torch

operators.declare()

from diffusers import (  # noqa: E402
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer  # noqa: E402

VOCABULARY = 49408
START, END = "<|startoftext|>", "<|endoftext|>"
LATENT_SCALE = 0.48061659932136536  # 1 / standard deviation of the VAE's latents
DAMPING = 0.3
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
UNET = {
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "norm_num_groups": 4,
}


def byte_alphabet():
    """CLIP's 256 symbols: printable Latin-1 as itself, the rest from U+0100 on."""
    spans = (("!", "~"), ("¡", "¬"), ("®", "ÿ"))
    printable = [chr(code) for first, last in spans for code in range(ord(first), ord(last) + 1)]
    return printable + [chr(256 + n) for n in range(256 - len(printable))]


def tokenizer(folder):
    """CLIP's own, written out from the merges that open_clip ships."""
    package = Path(importlib.util.find_spec("open_clip").submodule_search_locations[0])
    lines = gzip.decompress((package / "bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode().split("\n")
    merges = lines[1 : VOCABULARY - 512 - 2 + 1]
    alphabet = byte_alphabet()
    words = [*alphabet, *(symbol + "</w>" for symbol in alphabet), *("".join(m.split()) for m in merges), START, END]
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True, **special}
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = json.dumps({word: n for n, word in enumerate(words)}, ensure_ascii=False)
    (folder / "vocab.json").write_text(vocabulary, encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)


def text_config(width, **more):
    """Two layers instead of twelve or more."""
    return CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        bos_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1,
        **more,
    )


def vae():
    """With the trained weights beside this file."""
    model = AutoencoderKL(
        block_out_channels=[16, 16, 32, 32],
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
        mid_block_add_attention=False,
        sample_size=64,
        scaling_factor=LATENT_SCALE,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
    )
    weights = load_file(Path(__file__).with_name("tiny_vae.safetensors"))
    model.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return model


def damped(unet):
    """Its prediction made small."""
    with torch.no_grad():
        unet.conv_out.weight.mul_(DAMPING)
        unet.conv_out.bias.zero_()
    return unet


def sd1_unet():
    """The UNet that tiny-sd, the ControlNet and the LoRA share."""
    return damped(
        UNet2DConditionModel(
            **UNET,
            cross_attention_dim=768,
            attention_head_dim=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        )
    )


def save_sd1(folder, unet, words):
    """A pipeline in diffusers' layout."""
    scheduler = DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    StableDiffusionPipeline(
        vae=vae(),
        text_encoder=CLIPTextModel(text_config(768)),
        tokenizer=words,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def save_sdxl(folder, words):
    """A pipeline in diffusers' layout, with both text encoders."""
    unet = UNet2DConditionModel(
        **UNET,
        cross_attention_dim=2048,
        attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 1),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
        use_linear_projection=True,
    )
    StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=CLIPTextModel(text_config(768)),
        text_encoder_2=CLIPTextModelWithProjection(text_config(1280, projection_dim=1280)),
        tokenizer=words,
        tokenizer_2=words,
        unet=damped(unet),
        scheduler=EulerDiscreteScheduler(**BETAS),
        add_watermarker=False,
    ).save_pretrained(folder)
    return unet


def save_lora(file, unet, rank=2):
    """Random updates of the attention's queries and keys, under the names InvokeAI knows."""
    weights = {}
    for name, module in unet.named_modules():
        if name.endswith(("attn1.to_q", "attn2.to_k", "attn2.to_v")):
            key = f"lora_unet_{name.replace('.', '_')}"
            weights[f"{key}.lora_down.weight"] = torch.randn(rank, module.in_features) * 0.1
            weights[f"{key}.lora_up.weight"] = torch.randn(module.out_features, rank) * 0.1
            weights[f"{key}.alpha"] = torch.tensor(float(rank))
    save_file(weights, str(file))


def main(folder):
    """All five. Each machine makes the same ones."""
    torch.manual_seed(0)
    words = tokenizer(folder / "tokenizer")
    unet = sd1_unet()
    save_sd1(folder / "tiny-sd", unet, words)
    ControlNetModel.from_unet(unet, conditioning_channels=3).save_pretrained(folder / "tiny-controlnet")
    save_lora(folder / "tiny-lora.safetensors", unet)
    save_lora(folder / "tiny-sdxl-lora.safetensors", save_sdxl(folder / "tiny-sdxl", words))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
