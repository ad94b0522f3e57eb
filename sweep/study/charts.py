"""What notebooks show of a study: response curves as Vega-Lite, sentences as HTML."""

from __future__ import annotations

from html import escape
from typing import Any

from sweep.errors import UsageError, did_you_mean
from sweep.study.schema import Curve, MetricFacts, StudyJson
from sweep.study.tables import write_group

VEGA_LITE = "application/vnd.vegalite.v5+json"


class Chart(dict[str, Any]):
    """A Vega-Lite specification that Jupyter draws by itself, without another package."""

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return {VEGA_LITE: dict(self), "text/plain": f"Vega-Lite chart: {self['description']}"}


def select_curves(data: StudyJson, metric: str, axis: str | None) -> list[Curve]:
    """Select curves of the metric by the first axis that splits them, or the one over all rows.

    `axis` is by default the first with curves. Raises UsageError where there is no such metric or axis.
    """
    known = sorted({curve["metric"] for curve in data["curves"]})
    if metric not in known:
        raise UsageError(f"There is no curve of {metric}.{did_you_mean(metric, known)}", hint=_known(known))
    axes = list(dict.fromkeys(curve["axis"] for curve in data["curves"] if curve["metric"] == metric))
    chosen = axis or axes[0]
    if chosen not in axes:
        raise UsageError(f"There is no curve along {chosen}.{did_you_mean(chosen, axes)}", hint=_known(axes))
    found = [c for c in data["curves"] if c["metric"] == metric and c["axis"] == chosen]
    split = next((next(iter(c["group"])) for c in found if c["group"]), None)
    return [c for c in found if split in c["group"]] if split else found


def _known(names: list[str]) -> str:
    return f"Known: {', '.join(names)}." if names else "No axis of this study is numeric."


def find_facts(data: StudyJson, metric: str) -> MetricFacts:
    """Look up what a metric's column means."""
    return next(fact for fact in data["metrics"] if fact["name"] == metric)


def make_html(data: StudyJson) -> str:
    """Write the findings as HTML: headlines and limits, the rest folded away."""
    seen = [s for s in data["words"] if s["headline"]] + [s for s in data["words"] if s["kind"] == "limit"]
    rest = [s["text"] for s in data["words"] if s not in seen]
    folded = f"<details><summary>{len(rest)} more</summary>{_list(rest)}</details>" if rest else ""
    return _list([s["text"] for s in seen]) + folded


def _list(texts: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in dict.fromkeys(texts))}</ul>"


def make_chart(data: StudyJson, metric: str, axis: str | None = None) -> Chart:
    """Make a Vega-Lite 5 specification: band, mean and its points by group, with the data inside."""
    curves = select_curves(data, metric, axis)
    facts = find_facts(data, metric)
    rows = [
        {"x": x, "mean": curve["mean"][i], "low": curve["low"][i], "high": curve["high"][i], "group": _name(curve)}
        for curve in curves
        for i, x in enumerate(curve["x"])
    ]
    x = {"field": "x", "type": "quantitative", "title": curves[0]["axis"]}
    title = f"{facts['label']} ({facts['unit']})" if facts["unit"] else facts["label"]
    colour = {"field": "group", "type": "nominal", "title": None}
    return Chart(
        {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "description": f"{facts['summary']} {curves[0]['interval']}.",
            "data": {"values": rows},
            "encoding": {"x": x, "color": colour},
            "layer": [
                {
                    "mark": {"type": "area", "opacity": 0.2},
                    "encoding": {
                        "y": {"field": "low", "type": "quantitative", "title": title},
                        "y2": {"field": "high"},
                    },
                },
                {
                    "mark": {"type": "line", "point": True},
                    "encoding": {"y": {"field": "mean", "type": "quantitative", "title": title}},
                },
            ],
        }
    )


def _name(curve: Curve) -> str:
    return write_group(curve["group"]) or "all"
