"""Names of samplers as other tools have them, as InvokeAI's schedulers."""

from __future__ import annotations

from collections.abc import Mapping

from sweep.errors import WorkflowError, did_you_mean
from sweep.workflow.schemas import builtin_schemas

_NAMES: Mapping[str, str] = {
    "euler_ancestral": "euler_a",
    "dpm_2": "kdpm_2",
    "dpm_2_ancestral": "kdpm_2_a",
    "dpmpp_2s_ancestral": "dpmpp_2s",
    "dpmpp_sde_gpu": "dpmpp_sde",
    "dpmpp_2m_sde_gpu": "dpmpp_2m_sde",
    "dpmpp_3m_sde": "dpmpp_3m",
    "dpmpp_3m_sde_gpu": "dpmpp_3m",
    "uni_pc": "unipc",
    "uni_pc_bh2": "unipc",
}
_KARRAS = "_k"


def scheduler_of(sampler: object, schedule: object) -> tuple[str, str]:
    """InvokeAI's scheduler for a sampler and its noise schedule, and a note where the schedule has no counterpart.

    Each may be left out. Raises WorkflowError for a sampler nobody knows.
    """
    known = builtin_schemas()["denoise_latents"].fields["scheduler"].choices
    if not sampler and str(schedule) in known:
        return str(schedule), ""
    name = _NAMES.get(str(sampler or "euler"), str(sampler or "euler"))
    if name not in known:
        near = did_you_mean(name, [*known, *_NAMES])
        raise WorkflowError(f"there is no sampler {sampler}.{near}")
    if schedule in (None, "", "normal"):
        return name, ""
    if schedule == "karras" and name + _KARRAS in known:
        return name + _KARRAS, ""
    return name, f"the schedule {schedule} has no counterpart for {name} in InvokeAI; its own is used"
