"""Curves of denoise strength on what the sandbox paints: they fall, and where they are spent it is said."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from sweep.engine import run
from sweep.experiment import Experiment
from sweep.sandbox import sandbox_server
from sweep.study.stats.response_curves import SPENT
from sweep.study.study import make_study
from sweep.study.study_json import Curve
from tests.support.study_folders import measure

STUDY = Path(__file__).parents[2] / "experiments" / "denoise_study.yaml"
STRUCTURE = ("ssim", "ms_ssim", "structure_fine", "structure_middle", "structure_coarse")
SMALL = ("axes.variation=[painterly effect, dramatic lighting]", "inputs.width=256", "inputs.height=256")


@pytest.fixture
def experiment() -> Experiment:
    """Eleven strengths, two looks, four seeds."""
    return Experiment.load(STUDY, SMALL)


def spent_from(curve: Curve) -> float:
    """Where the stretch begins that the curve calls saturated at its end; infinite where there is none."""
    late = [w["low"] for w in curve["warnings"] if w["kind"] == "saturated" and w["high"] == curve["x"][-1]]
    return late[0] if late and late[0] is not None else float("inf")


@pytest.mark.full
async def test_structure_falls_with_strength_until_it_is_called_saturated(
    experiment: Experiment, tmp_path: Path
) -> None:
    async with sandbox_server() as sandbox:
        summary = await run(experiment, [sandbox.url], results=tmp_path)
    table = await measure(summary.folder, metrics=STRUCTURE, workers=2)
    axes = [("denoise_strength", "number"), ("variation", "text"), ("seed", "seed")]

    found = make_study(table, axes=axes, metrics=STRUCTURE)

    for curve in found.data["curves"]:
        if curve["axis"] != "denoise_strength" or curve["group"]:
            continue
        assert curve["falling"] is True
        assert set(curve["n"]) == {4}
        assert None not in curve["low"]
        assert "violated" not in [w["kind"] for w in curve["warnings"]], curve["metric"]
        means = [mean or 0.0 for mean in curve["mean"]]
        spread = max(means) - min(means)
        for (before, early), (_, late) in pairwise(zip(curve["x"], means, strict=True)):
            tail = SPENT * spread if before >= spent_from(curve) else 0.0
            assert late - early <= tail, (curve["metric"], before)
