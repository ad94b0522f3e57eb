"""What InvokeAI's own default workflows mean: each role with the fields that set it, node ids cut to four characters.

`!` marks a field whose incoming edge is cut, `+` fields that are set together, `|` those a person must choose from.
"""

from __future__ import annotations

REFUSED = {  # the reason, for those that no server of 6.14.2 takes as they are
    "ESRGAN Upscaling with Canny ControlNet.json": "canny_image_processor",
    "Face Detailer with IP-Adapter & Canny (See Note in Details).json": "canny_image_processor",
    "Multi ControlNet (Canny & Depth).json": "midas_depth_image_processor",
    "Prompt from File.json": "file_path",
}

LABELS = {  # what the author's label on a field or node says, in any case, where a role sets it
    "prompt": ("positive prompt", "positive compel prompt"),
    "negative_prompt": ("negative prompt", "negative compel prompt"),
    "image": ("image",),
    "model": ("model", "transformer"),
    "cfg_scale": ("cfg",),
    "denoise_strength": ("image percentage",),
    "lora": ("lora",),
    "lora_weight": ("lora",),
    "control_weight": ("control",),
    "control_model": ("control",),
    "control_begin": ("control",),
    "control_end": ("control",),
    "width": ("width", "compel prompt"),
    "height": ("height", "compel prompt"),
    "seed": ("seed",),
}

ROLES = {
    "CogView4_TextToImage.json": """
        prompt: a456.prompt
        negative_prompt: acb2.prompt
        seed: e75e.seed
        steps: e75e.steps
        cfg_scale: e75e.cfg_scale
        model: 7890.model
        width: e75e.width
        height: e75e.height
        outputs: cdd7
    """,
    "ESRGAN Upscaling with Canny ControlNet.json": """
        prompt: 63b6.prompt
        negative_prompt: e8bf.prompt
        denoise_strength: c373.denoising_start
        seed: f506.seed!
        steps: c373.steps
        cfg_scale: c373.cfg_scale
        scheduler: c373.scheduler
        model: d8ac.model
        image: 771b.image
        control_weight: ca1d.control_weight
        control_model: ca1d.control_model
        control_begin: ca1d.begin_step_percent
        control_end: ca1d.end_step_percent
        outputs: 3ed9
    """,
    "Extend Video - Wan 2.2 Lightning w_ Concept LoRAs.json": """
        prompt: 2b1f.prompt
        negative_prompt: 3c2a.prompt
        seed: 4d3b.seed!
        steps: 4d3b.steps
        cfg_scale: 4d3b.guidance_scale
        model: 1a0e.model
        lora: 291a.lora | ae8f.lora
        lora_weight: 291a.weight | ae8f.weight
    """,
    "Extend Video - Wan 2.2 Lightning.json": """
        prompt: 2b1f.prompt
        negative_prompt: 3c2a.prompt
        seed: 4d3b.seed!
        steps: 4d3b.steps
        cfg_scale: 4d3b.guidance_scale
        model: 1a0e.model
        lora: 291a.lora | ae8f.lora
        lora_weight: 291a.weight | ae8f.weight
    """,
    "Extend Video to Image - Wan 2.2 Lightning.json": """
        prompt: 2b1f.prompt
        negative_prompt: 3c2a.prompt
        seed: 4d3b.seed!
        steps: 4d3b.steps
        cfg_scale: 4d3b.guidance_scale
        model: 1a0e.model
        image: f938.image
        lora: 291a.lora | ae8f.lora
        lora_weight: 291a.weight | ae8f.weight
    """,
    "FLUX Image to Image.json": """
        prompt: 01f6.prompt
        denoise_strength: cd36.denoising_start
        seed: cd36.seed!
        steps: cd36.num_steps
        cfg_scale: cd36.guidance
        scheduler: cd36.scheduler
        model: f8d9.model
        image: 2981.image
        outputs: 7e51
    """,
    "Face Detailer with IP-Adapter & Canny (See Note in Details).json": """
        prompt: f4d1.prompt
        negative_prompt: 44f2.prompt
        denoise_strength: cdfa.value
        seed: 3562.seed!
        steps: bd06.steps
        cfg_scale: 6471.value
        scheduler: bd06.scheduler
        model: c635.model
        image: 2c9b.image
        width: 50a8.width
        height: 50a8.height
        control_weight: f60b.control_weight
        control_model: f60b.control_model
        control_begin: f60b.begin_step_percent
        control_end: f60b.end_step_percent
        outputs: a7d1
    """,
    "Flux Text to Image.json": """
        prompt: 01f6.prompt
        seed: 0940.seed!
        steps: 0940.num_steps
        cfg_scale: 0940.guidance
        scheduler: 0940.scheduler
        model: f8d9.model
        width: 0940.width
        height: 0940.height
        outputs: 7e51
    """,
    "Image to Video - Wan 2.2 Lightning w_ Concept LoRAs.json": """
        prompt: 2b1f.prompt
        negative_prompt: 3c2a.prompt
        seed: 4d3b.seed!
        steps: 4d3b.steps
        cfg_scale: 4d3b.guidance_scale
        model: 1a0e.model
        image: 738e.image
        lora: 5466.lora | 29f6.lora
        lora_weight: 5466.weight | 29f6.weight
    """,
    "Image to Video - Wan 2.2 Lightning.json": """
        prompt: 2b1f.prompt
        negative_prompt: 3c2a.prompt
        seed: 4d3b.seed!
        steps: 4d3b.steps
        cfg_scale: 4d3b.guidance_scale
        model: 1a0e.model
        image: 738e.image
        lora: 291a.lora | ae8f.lora
        lora_weight: 291a.weight | ae8f.weight
    """,
    "Image to Video - Wan 2.2 TI2V-5B (Low Quality).json": """
        prompt: 2b1f.prompt
        negative_prompt: 3c2a.prompt
        seed: 4d3b.seed!
        steps: 4d3b.steps
        cfg_scale: 4d3b.guidance_scale
        model: 1a0e.model
        image: 0771.image
    """,
    "Interpolate 2 Images to Video - Wan 2.2 Lightning.json": """
        prompt: 2b1f.prompt
        negative_prompt: 3c2a.prompt
        seed: 4d3b.seed!
        steps: 4d3b.steps
        cfg_scale: 4d3b.guidance_scale
        model: 1a0e.model
        image: 738e.image | c845.image
        lora: 291a.lora | ae8f.lora
        lora_weight: 291a.weight | ae8f.weight
    """,
    "Multi ControlNet (Canny & Depth).json": """
        prompt: 7ce6.prompt
        negative_prompt: 273e.prompt
        seed: 2e77.seed!
        steps: ac48.steps
        cfg_scale: ac48.cfg_scale
        scheduler: ac48.scheduler
        model: 5448.model
        width: 2e77.width
        height: 2e77.height
        control_weight: d204.control_weight | a331.control_weight
        control_model: d204.control_model | a331.control_model
        control_begin: d204.begin_step_percent | a331.begin_step_percent
        control_end: d204.end_step_percent | a331.end_step_percent
        outputs: 9db2
    """,
    "MultiDiffusion SD1.5.json": """
        prompt: 1446.prompt
        negative_prompt: 33fe.prompt
        denoise_strength: 8dba.denoising_start!
        seed: 8923.seed!
        steps: 8dba.steps
        cfg_scale: 8dba.cfg_scale
        scheduler: 8dba.scheduler
        model: 009b.model
        image: 0110.image
        control_model: f936.model
        control_weight: b78f.control_weight! | be40.control_weight!
        control_begin: b78f.begin_step_percent | be40.begin_step_percent!
        control_end: b78f.end_step_percent! | be40.end_step_percent
        outputs: c3b6
    """,
    "MultiDiffusion SDXL.json": """
        prompt: c26b.value
        negative_prompt: f5ca.value
        denoise_strength: 8dba.denoising_start!
        seed: 8923.seed!
        steps: 8dba.steps
        cfg_scale: 8dba.cfg_scale
        scheduler: 8dba.scheduler
        model: e277.model
        image: 0110.image
        control_model: f936.model
        control_weight: b78f.control_weight! | be40.control_weight!
        control_begin: b78f.begin_step_percent | be40.begin_step_percent!
        control_end: b78f.end_step_percent! | be40.end_step_percent
        outputs: c3b6
    """,
    "Prompt from File.json": """
        prompt: fc9d.prompt!
        negative_prompt: c2ea.prompt
        seed: 0eb5.seed!
        steps: 2fb1.steps
        cfg_scale: 2fb1.cfg_scale
        scheduler: 2fb1.scheduler
        model: d635.model
        width: 0eb5.width
        height: 0eb5.height
        outputs: 491e
    """,
    "SD3.5 Text to Image.json": """
        prompt: e17d.prompt
        negative_prompt: 3b4f.prompt
        seed: c753.seed!
        steps: c753.steps
        cfg_scale: c753.cfg_scale
        model: 3f22.model
        width: c753.width
        height: c753.height
        outputs: 9eb7
    """,
    "Text to Image - SD1.5.json": """
        prompt: 7d8b.prompt
        negative_prompt: 93dc.prompt
        seed: 5570.seed!
        steps: eea2.steps
        cfg_scale: eea2.cfg_scale
        scheduler: eea2.scheduler
        model: c8d5.model
        width: 5570.width
        height: 5570.height
        outputs: 58c9
    """,
    "Text to Image - SDXL.json": """
        prompt: ade2.value
        negative_prompt: 719d.value
        seed: 5570.seed!
        steps: 50a3.steps
        cfg_scale: 50a3.cfg_scale
        scheduler: 50a3.scheduler
        model: 30d3.model
        width: 5570.width + faf9.original_width + faf9.target_width + 3193.original_width + 3193.target_width
        height: 5570.height + faf9.original_height + faf9.target_height + 3193.original_height + 3193.target_height
        outputs: 63e9
    """,
    "Text to Image with LoRA.json": """
        prompt: c3fa.prompt
        negative_prompt: 85b7.prompt
        seed: ea18.seed!
        steps: ad48.steps
        cfg_scale: ad48.cfg_scale
        scheduler: ad48.scheduler
        model: 24e9.model
        width: ea18.width
        height: ea18.height
        lora: c41e.lora
        lora_weight: c41e.weight
        outputs: a968
    """,
    "Text to Video - Wan 2.2 Lightning w_ Concept LoRAs.json": """
        prompt: 2b1f.prompt
        negative_prompt: 3c2a.prompt
        seed: 4d3b.seed!
        steps: 4d3b.steps
        cfg_scale: 4d3b.guidance_scale
        model: 1a0e.model
        width: 4d3b.width
        height: 4d3b.height
        lora: 5d18.lora | eb6b.lora
        lora_weight: 5d18.weight | eb6b.weight
    """,
    "Text to Video - Wan 2.2 Lightning.json": """
        prompt: 2b1f.prompt
        negative_prompt: 3c2a.prompt
        seed: 4d3b.seed!
        steps: 4d3b.steps
        cfg_scale: 4d3b.guidance_scale
        model: 1a0e.model
        width: 4d3b.width
        height: 4d3b.height
        lora: 291a.lora | ae8f.lora
        lora_weight: 291a.weight | ae8f.weight
    """,
    "Text to Video - Wan 2.2 TI2V-5B (Low Quality).json": """
        prompt: 2b1f.prompt
        negative_prompt: 3c2a.prompt
        seed: 4d3b.seed!
        steps: 4d3b.steps
        cfg_scale: 4d3b.guidance_scale
        model: 1a0e.model
        width: 0cc3.value
        height: e20a.value
    """,
    "Tiled Upscaling (Beta).json": """
        prompt: 9b2d.prompt
        negative_prompt: 947c.prompt
        denoise_strength: 1011.denoising_start!
        seed: b351.seed!
        steps: 1011.steps
        cfg_scale: 1011.cfg_scale
        scheduler: 1011.scheduler
        model: 2ff4.model
        image: 5ca8.image
        control_weight: d334.control_weight
        control_model: d334.control_model
        control_begin: d334.begin_step_percent
        control_end: d334.end_step_percent
        outputs: 2341
    """,
    "Wan 2.2 Image to Image.json": """
        prompt: 2b1f.prompt
        negative_prompt: 3c2a.prompt
        seed: 4d3b.seed!
        steps: 4d3b.steps
        cfg_scale: 4d3b.guidance_scale
        model: 1a0e.model
        image: 7a6e.image
        width: 4d3b.width + 7a6e.width
        height: 4d3b.height + 7a6e.height
        outputs: 6f5d
    """,
    "Wan 2.2 Text to Image.json": """
        prompt: 2b1f.prompt
        negative_prompt: 3c2a.prompt
        seed: 4d3b.seed!
        steps: 4d3b.steps
        cfg_scale: 4d3b.guidance_scale
        model: 1a0e.model
        width: 4d3b.width
        height: 4d3b.height
        outputs: 6f5d
    """,
}
