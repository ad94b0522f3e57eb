"""The roles that the official templates with a sampling node have: those that make images, of nodes of 0.3.75.

A role with a number stands for that many nodes, of which an experiment chooses one.
"""

from __future__ import annotations

from typing import Final

ROLES: Final[dict[str, tuple[str, ...]]] = {
    "cfg_scale height model negative_prompt prompt sampler scheduler seed steps width": (
        "Image_capybara_v0_1_text_to_image",
        "flux_schnell",
        "hidream_i1_dev",
        "hidream_i1_fast",
        "hidream_i1_full",
        "image_anima_preview",
        "image_chroma1_radiance_text_to_image",
        "image_chroma_text_to_image",
        "image_flux2_klein_text_to_image",
        "image_flux2_text_to_image_9b",
        "image_kandinsky5_t2i",
        "image_netayume_lumina_t2i",
        "image_newbieimage_exp0_1-t2i",
        "image_omnigen2_t2i",
        "image_ovis_text_to_image",
        "image_sdxl_simple",
        "sd3.5_simple_example",
        "sdxlturbo_example",
        "txt_to_image_to_video",
    ),
    "cfg_scale height model prompt sampler scheduler seed steps width": (
        "flux1_krea_dev",
        "flux_dev_checkpoint_example",
        "flux_dev_full_text_to_image",
        "flux_schnell_full_text_to_image",
        "image_z_image_turbo",
        "image_z_image_turbo_fun_union_controlnet",
        "image_z_image_turbo_int8",
    ),
    "cfg_scale denoise_strength image model prompt sampler scheduler seed steps": (
        "flux_canny_model_example",
        "flux_fill_inpaint_example",
        "flux_fill_outpaint_example",
        "flux_kontext_dev_basic",
        "hidream_e1_1",
    ),
    "cfg_scale height lora lora_weight model negative_prompt prompt sampler scheduler seed steps width": (
        "template_qwen_image_illustration_lora",
        "template_sugar_coated_gummy_style_qwen",
        "video_wan2.1_alpha_t2v_14B",
    ),
    (
        "cfg_scale control_begin control_end control_image control_model control_weight height model prompt "
        "sampler scheduler seed steps width"
    ): (
        "sd3.5_large_blur",
        "sd3.5_large_canny_controlnet_example",
    ),
    (
        "cfg_scale denoise_strength image model negative_prompt prompt sampler scheduler seed steps lora*2 "
        "lora_weight*2"
    ): (
        "image_qwen_image_edit_2509_relight",
        "templates-image_to_real",
    ),
    "cfg_scale height lora lora_weight model prompt sampler scheduler seed steps width": (
        "image_qwen_image_2512_with_2steps_lora",
    ),
    "height width cfg_scale*2 model*2 negative_prompt*2 prompt*2 sampler*2 scheduler*2 seed*2 steps*2": (
        "sdxl_refiner_prompt_example",
        "sdxl_simple_example",
    ),
    (
        "cfg_scale control_begin control_end control_model control_weight denoise_strength image lora "
        "lora_weight negative_prompt prompt seed model*2 sampler*2 scheduler*2 steps*2"
    ): ("image_qwen_image_instantx_controlnet",),
    (
        "cfg_scale control_begin control_end control_model control_weight denoise_strength image model "
        "negative_prompt prompt sampler scheduler seed steps"
    ): ("image_qwen_image_instantx_inpainting_controlnet",),
    (
        "cfg_scale control_begin control_end control_model control_weight denoise_strength image prompt seed "
        "model*2 sampler*2 scheduler*2 steps*2"
    ): ("sd3.5_large_depth",),
    ("cfg_scale denoise_strength height image model negative_prompt prompt sampler scheduler seed steps width"): (
        "hidream_e1_full",
    ),
    ("cfg_scale denoise_strength image lora lora_weight model negative_prompt prompt sampler scheduler seed steps"): (
        "image-qwen_image_edit_2511_lora_inflation",
    ),
    "cfg_scale denoise_strength image lora lora_weight model prompt sampler scheduler seed steps": (
        "image_flux.1_fill_dev_OneReward",
    ),
    "cfg_scale denoise_strength image lora lora_weight prompt seed model*2 sampler*2 scheduler*2 steps*2": (
        "flux_depth_lora_example",
    ),
    "cfg_scale denoise_strength image model negative_prompt prompt sampler scheduler seed steps": (
        "image_qwen_image_controlnet_patch",
    ),
    "denoise_strength image model sampler scheduler steps": ("image_lotus_depth_v1_1",),
    (
        "image model cfg_scale*8 denoise_strength*8 lora*2 lora_weight*2 negative_prompt*8 prompt*8 sampler*8 "
        "scheduler*8 seed*8 steps*8"
    ): ("templates-1_click_multiple_scene_angles-v1.0",),
    "cfg_scale height image lora lora_weight model prompt sampler scheduler seed steps width": (
        "flux1_dev_uso_reference_image_gen",
    ),
    "cfg_scale height model prompt sampler scheduler seed steps width image*2": ("flux_redux_model_example",),
    "cfg_scale height image model negative_prompt prompt sampler scheduler seed steps width": (
        "image_flux2_klein_image_edit_4b_base",
        "image_flux2_klein_image_edit_9b_base",
        "image_omnigen2_image_edit",
    ),
    "cfg_scale height image model prompt sampler scheduler seed steps width": (
        "image_flux2_klein_image_edit_4b_distilled",
        "image_flux2_klein_image_edit_9b_distilled",
    ),
    "cfg_scale height model negative_prompt prompt sampler scheduler seed steps width image*2": (
        "sdxl_revision_text_prompts",
    ),
}
