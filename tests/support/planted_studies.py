"""Studies with a planted effect: what a metric would be if it did exactly this."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

STRENGTHS = np.round(np.linspace(0, 1, 11), 1)
PROMPTS = ("studio", "dramatic", "painterly")


def planted(
    rng: np.random.Generator,
    *,
    seeds: int = 4,
    prompts: tuple[str, ...] = PROMPTS,
    middle: float = 0.55,
    prompt_effect: float = 0.05,
    seed_sd: float = 0.02,
    noise_sd: float = 0.01,
) -> pd.DataFrame:
    """A falling logistic in denoise_strength, shifted by prompt, with seeds that differ and seed × point noise."""
    s, p, k = np.meshgrid(STRENGTHS, np.arange(len(prompts)), np.arange(seeds), indexing="ij")
    shift = rng.normal(0, seed_sd, seeds)[k]
    y = (
        logistic(s, middle)
        + prompt_effect * (p - (len(prompts) - 1) / 2) * s
        + shift
        + rng.normal(0, noise_sd, s.shape)
    )
    return pd.DataFrame(
        {
            "denoise_strength": s.ravel(),
            "prompt_text": np.array(prompts, dtype=object)[p.ravel()],
            "seed": 42 + k.ravel(),
            "structure_coarse": y.ravel(),
        }
    )


def logistic(x: npt.NDArray[np.float64], middle: float | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(12 * (x - middle))), dtype=np.float64)


AXES = (("denoise_strength", "number"), ("prompt_text", "text"), ("seed", "seed"))
