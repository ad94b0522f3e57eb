"""The roles of a workflow: the names by which an experiment sets its inputs, and what each means.

One table for the experiment, which checks what is set by name, and for the workflow, which finds the fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

SEED_MAX: Final = 2**32 - 1
MAX_SIDE: Final = 16_384  # pixels of an image: no server renders more at once
SettingKind: TypeAlias = Literal["integer", "number", "text", "name", "image", "model", "stack", "controls", "board"]


@dataclass(frozen=True, slots=True)
class Role:
    """What a role means, in words for people, and which values make sense for it on any server."""

    kind: SettingKind
    means: str
    low: float | None = None
    high: float | None = None
    optional: bool = False  # null is a value: none of it


ROLE_TABLE: Final[Mapping[str, Role]] = MappingProxyType(
    {
        "prompt": Role("text", "The text that the image should show."),
        "negative_prompt": Role("text", "The text that the image should avoid."),
        "variation": Role("text", "Appended to the prompt, after a comma, or put where the prompt says {variation}."),
        "denoise_strength": Role("number", "Strength of img2img: 0 keeps the source, 1 ignores it.", low=0, high=1),
        "seed": Role("integer", "Seed of the noise, 0 to 4294967295.", low=0, high=SEED_MAX),
        "steps": Role("integer", "Denoising steps, at least 1.", low=1),
        "cfg_scale": Role("number", "How closely the prompt is followed (classifier-free guidance).", low=0),
        "scheduler": Role("name", "Name of the scheduler, as the server calls it (euler, dpmpp_2m_k, …)."),
        "sampler": Role("name", "Name of the sampler, where a server has it apart from its noise schedule."),
        "model": Role("model", "Main model: a name, name@base if the name is ambiguous, or the server's key."),
        "vae": Role("model", "VAE model; null uses the VAE of the main model.", optional=True),
        "image": Role("image", "The source image: a file path, or gallery:NAME for one on the server."),
        "width": Role("integer", "Width of the image in pixels.", low=1, high=MAX_SIDE),
        "height": Role("integer", "Height of the image in pixels.", low=1, high=MAX_SIDE),
        "lora": Role(
            "stack", "LoRA model, or a list of them; each a name or {name, weight}. null is none.", optional=True
        ),
        "lora_weight": Role("number", "Weight of the LoRA; of several, those without a weight of their own."),
        "clip_skip": Role(
            "integer",
            "How many of the text encoder's last layers are skipped; 0 uses all (elsewhere called clip skip 1).",
            low=0,
            high=23,
        ),
        "control_image": Role("image", "The image that a ControlNet follows: a file path, or gallery:NAME."),
        "control_weight": Role("number", "Weight of the ControlNet, -1 to 2.", low=-1, high=2),
        "control_model": Role("model", "The ControlNet's model, by name."),
        "control_begin": Role("number", "Point of denoising where the ControlNet begins, 0 to 1.", low=0, high=1),
        "control_end": Role("number", "Point of denoising where the ControlNet ends, 0 to 1.", low=0, high=1),
        "board": Role("board", "Board on the server for the images, by name.", optional=True),
    }
)
ROLE_NAMES: Final[tuple[str, ...]] = tuple(ROLE_TABLE)
COMPOSED_ROLES: Final = frozenset({"variation", "vae", "board"})  # the plan applies them; any workflow has one of each
FOUND_ROLES: Final = tuple(name for name in ROLE_NAMES if name not in COMPOSED_ROLES)  # found by following edges
CONTROL_ROLES: Final = tuple(name for name in ROLE_NAMES if name.startswith("control_"))

SYNONYMS: Final[Mapping[str, str]] = MappingProxyType(  # what other tools call a role
    {
        **dict.fromkeys(("skipped_layers", "stop_at_clip_layer", "clip_skip_layers"), "clip_skip"),
        **dict.fromkeys(("cfg", "guidance", "guidance_scale", "scale"), "cfg_scale"),
        **dict.fromkeys(("sampler", "sampler_name", "sampling_method"), "scheduler"),
        **dict.fromkeys(("checkpoint", "ckpt", "ckpt_name", "unet"), "model"),
        **dict.fromkeys(("strength", "denoise", "denoising", "denoising_strength"), "denoise_strength"),
        **dict.fromkeys(("lora_strength", "lora_scale", "lora_multiplier"), "lora_weight"),
        **dict.fromkeys(("negative", "neg_prompt", "uc"), "negative_prompt"),
        **dict.fromkeys(("init_image", "source", "source_image", "input_image"), "image"),
        **dict.fromkeys(("controlnet_image", "control_net_image"), "control_image"),
        **dict.fromkeys(("controlnet_weight", "control_strength", "controlnet_strength"), "control_weight"),
        **dict.fromkeys(("noise_seed", "subseed"), "seed"),
        **dict.fromkeys(("num_steps", "num_inference_steps", "sampling_steps"), "steps"),
        **dict.fromkeys(("text", "positive_prompt"), "prompt"),
    }
)
