"""Response curves drawn where there is no report: a Vega-Lite specification, and a small SVG for notebooks."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from sweep.errors import UsageError, did_you_mean
from sweep.study.schema import Curve, MetricFacts, StudyJson
from sweep.study.tables import curves_frame, group_text

INKS = ("#3b6fb6", "#c0566c", "#4f9d69", "#b07d2b", "#7a5ea8", "#3d9aa1", "#8a8a8a")
MOST_TICKS = 6.0  # steps
WIDTH, HEIGHT, MARGIN = 460.0, 250.0, 46.0


class Drawing(str):
    """An SVG document that a notebook shows by itself."""

    __slots__ = ()

    def _repr_svg_(self) -> str:
        return str(self)


def curves_to_draw(data: StudyJson, metric: str, axis: str | None) -> list[Curve]:
    """Curves of the metric by the first axis that splits them, or the one over all rows.

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


def facts_by_name(data: StudyJson, metric: str) -> MetricFacts:
    """What the column means."""
    return next(fact for fact in data["metrics"] if fact["name"] == metric)


def words_html(data: StudyJson) -> str:
    """The findings as HTML: headlines and limits, the rest folded away."""
    seen = [s for s in data["words"] if s["headline"]] + [s for s in data["words"] if s["kind"] == "limit"]
    rest = [s["text"] for s in data["words"] if s not in seen]
    folded = f"<details><summary>{len(rest)} more</summary>{_list(rest)}</details>" if rest else ""
    return _list([s["text"] for s in seen]) + folded


def _list(texts: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in dict.fromkeys(texts))}</ul>"


def vega_lite(data: StudyJson, metric: str, axis: str | None = None) -> dict[str, Any]:
    """A Vega-Lite 5 specification: band, mean and its points by group, with the data inside."""
    curves = curves_to_draw(data, metric, axis)
    facts = facts_by_name(data, metric)
    rows = [
        {"x": x, "mean": curve["mean"][i], "low": curve["low"][i], "high": curve["high"][i], "group": _name(curve)}
        for curve in curves
        for i, x in enumerate(curve["x"])
    ]
    x = {"field": "x", "type": "quantitative", "title": curves[0]["axis"]}
    title = f"{facts['label']} ({facts['unit']})" if facts["unit"] else facts["label"]
    colour = {"field": "group", "type": "nominal", "title": None}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "description": f"{facts['summary']} {curves[0]['interval']}.",
        "data": {"values": rows},
        "encoding": {"x": x, "color": colour},
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.2},
                "encoding": {"y": {"field": "low", "type": "quantitative", "title": title}, "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "line", "point": True},
                "encoding": {"y": {"field": "mean", "type": "quantitative", "title": title}},
            },
        ],
    }


def _name(curve: Curve) -> str:
    return group_text(curve["group"]) or "all"


def svg(data: StudyJson, metric: str, axis: str | None = None) -> Drawing:
    """The same as an SVG document: band, mean, levels, half-range mark, both axes labelled."""
    curves = curves_to_draw(data, metric, axis)
    facts = facts_by_name(data, metric)
    frame = curves_frame(curves)
    values = frame[["mean", "low", "high"]].to_numpy(dtype=float)
    finite = values[values == values]
    if not len(finite):
        return _document([f'<text x="20" y="30">{escape(facts["label"])}: nothing was measured</text>'])
    scale = _Scale((float(frame["x"].min()), float(frame["x"].max())), (float(finite.min()), float(finite.max())))
    parts = [*scale.axes(curves[0]["axis"], facts["label"])]
    for i, curve in enumerate(curves):
        parts += _drawn(curve, scale, INKS[i % len(INKS)])
        label = escape(_name(curve))[:60]
        parts.append(
            f'<text x="{MARGIN + 8:.0f}" y="{HEIGHT + 30 + 14 * i:.0f}" fill="{INKS[i % len(INKS)]}">— {label}</text>'
        )
    return _document(parts, extra=14 * len(curves) + 20)


def round_ticks(low: float, high: float) -> list[float]:
    """Three to seven multiples of 1, 2 or 5 times a power of ten between `low` and `high`; one where they are equal."""
    if not high > low:
        return [low]
    power = 10.0 ** math.floor(math.log10(high - low))
    step = next(step for m in (0.1, 0.2, 0.5, 1.0, 2.0) if (high - low) / (step := m * power) <= MOST_TICKS)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


class _Scale:
    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.x0, self.x1 = x
        pad = 0.05 * (y[1] - y[0]) or 0.5
        self.y0, self.y1 = y[0] - pad, y[1] + pad

    def at(self, x: float, y: float) -> str:
        across = (x - self.x0) / ((self.x1 - self.x0) or 1.0)
        up = (y - self.y0) / (self.y1 - self.y0)
        return f"{MARGIN + across * (WIDTH - 2 * MARGIN):.1f},{HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN):.1f}"

    def axes(self, x_name: str, y_name: str) -> list[str]:
        left, right = self.at(self.x0, self.y0), self.at(self.x1, self.y0)
        ticks = []
        for x in round_ticks(self.x0, self.x1):
            px, py = self.at(x, self.y0).split(",")
            ticks.append(f'<text x="{px}" y="{float(py) + 16:.1f}" text-anchor="middle">{x:.4g}</text>')
        for y in round_ticks(self.y0, self.y1):
            qx, qy = self.at(self.x0, y).split(",")
            ticks.append(f'<text x="{float(qx) - 6:.1f}" y="{float(qy) + 4:.1f}" text-anchor="end">{y:.4g}</text>')
        names = (
            f'<text x="{WIDTH - MARGIN:.0f}" y="{HEIGHT - 10:.0f}" text-anchor="end">{escape(x_name)} →</text>'
            f'<text x="{MARGIN:.0f}" y="22" font-weight="bold">{escape(y_name)}</text>'
        )
        return [f'<polyline points="{left} {right}" fill="none" stroke="currentColor"/>', *ticks, names]


def _drawn(curve: Curve, scale: _Scale, ink: str) -> list[str]:
    known = [i for i, mean in enumerate(curve["mean"]) if mean is not None]
    line = " ".join(scale.at(curve["x"][i], curve["mean"][i] or 0.0) for i in known)
    parts = [f'<polyline points="{line}" fill="none" stroke="{ink}" stroke-width="2"/>']
    banded = [
        (curve["x"][i], low, high)
        for i in known
        if (low := curve["low"][i]) is not None and (high := curve["high"][i]) is not None
    ]
    if banded:
        there = [scale.at(x, high) for x, _, high in banded]
        back = [scale.at(x, low) for x, low, _ in reversed(banded)]
        parts.insert(0, f'<polygon points="{" ".join(there + back)}" fill="{ink}" opacity="0.18"/>')
    if (half := curve["half"]["value"]) is not None:
        ends = f"{scale.at(half, scale.y0)} {scale.at(half, scale.y1)}"
        parts.append(f'<polyline points="{ends}" stroke="{ink}" stroke-dasharray="3 3" fill="none"/>')
    dots = (scale.at(curve["x"][i], curve["mean"][i] or 0.0).split(",") for i in known)
    return parts + [f'<circle cx="{x}" cy="{y}" r="2.5" fill="{ink}"/>' for x, y in dots]


def _document(parts: list[str], extra: float = 0.0) -> Drawing:
    size = f'viewBox="0 0 {WIDTH:.0f} {HEIGHT + extra:.0f}" width="{WIDTH:.0f}" height="{HEIGHT + extra:.0f}"'
    style = 'font-family="system-ui, sans-serif" font-size="11" fill="currentColor"'
    return Drawing(f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>{"".join(parts)}</svg>')
