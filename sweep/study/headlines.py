"""What of a study stands where there is little room: a few metrics that differ in what they say, a few sentences."""

from __future__ import annotations

from typing import Final

from sweep.study.contract import MetricFacts, StudyJson
from sweep.study.telling import main_metric

BESIDE: Final = ("delta_e", "diversity", "sharpness", "colourfulness")  # each tells what the ones before do not


def headline_metrics(study: StudyJson, most: int = 3) -> list[MetricFacts]:
    """At most `most` of the measured metrics, the most telling first."""
    measured = {metric["name"]: metric for metric in study["metrics"] if metric["measured"]}
    names = dict.fromkeys(name for name in (main_metric(study["metrics"]), *BESIDE) if name in measured)
    return [measured[name] for name in names if name][:most]


def headline_sentences(study: StudyJson) -> list[str]:
    """The sentences that belong on top, in order."""
    return [sentence["text"] for sentence in study["words"] if sentence["headline"]]
