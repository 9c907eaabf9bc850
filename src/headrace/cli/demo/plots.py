"""Pictures for the report, as SVG text."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from headrace.cli.demo.facts import Report, RolloutFact, percentile, seconds_of

BIN_SECONDS = 2.0
# By order of revision: what served in the end is calm, what was rolled back is not.
_COLOURS = ("#8aa6c1", "#2f6db3", "#e08a3c", "#b5446e", "#6b8e23")
_INK, _GRID, _BAD = "#3b4754", "#e3e8ee", "#c0392b"
_METRICS = {"errors": "#c0392b", "latency": "#b27a12", "labels": "#2f6db3"}


def traffic(report: Report) -> str:
    """Requests a second by revision, failures on top, and the acts along the time."""
    if not report.sent:
        return ""
    figure, axes = _figure(3.2)
    edges = _edges(report)
    bottoms = [0.0] * len(edges)
    for index, revision in enumerate(_revisions(report)):
        heights = [len(of) / BIN_SECONDS for of in _binned(report, edges, revision)]
        label = revision or "no answer"
        axes.bar(
            edges,
            heights,
            BIN_SECONDS,
            bottoms,
            align="edge",
            color=_colour(index),
            label=label,
            edgecolor=_colour(index),
            lw=0.4,
        )
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    failed = [one.at - report.started for one in report.sent if one.failed]
    top = max(bottoms) * 1.06
    axes.plot(failed, [top] * len(failed), "x", color=_BAD, label="failed", ms=5, mew=1.4, clip_on=False)
    axes.set_ylabel("requests a second")
    _finish_time_axis(axes, report)
    axes.set_ylim(0, top * 1.12)
    _legend(figure)
    return _svg(figure)


def latency(report: Report) -> str:
    """The 95th percentile of the time to an answer, by revision, in milliseconds."""
    if not report.sent:
        return ""
    from matplotlib.ticker import LogLocator, ScalarFormatter

    figure, axes = _figure(2.6)
    edges = _edges(report)
    for index, revision in enumerate(_revisions(report)):
        points = [
            (edge + BIN_SECONDS / 2, 1000 * percentile([one.seconds for one in of], 0.95))
            for edge, of in zip(edges, _binned(report, edges, revision), strict=True)
            if of
        ]
        axes.plot(*zip(*points, strict=True), color=_colour(index), label=revision, linewidth=1.8, marker=".", ms=3)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.set_ylabel("p95, ms")
    _finish_time_axis(axes, report)
    _legend(figure)
    return _svg(figure)


def evidence(report: Report) -> str:
    """Each judged rollout's sequential test as it ran: evidence against the canary, and the limit that ends it."""
    judged = [rollout for rollout in report.rollouts if rollout.windows]
    if not judged:
        return ""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 2.9), layout="constrained")
    grid = figure.subplots(1, len(judged), squeeze=False, sharey=True)[0]
    for axes, rollout in zip(grid, judged, strict=True):
        _evidence_of(axes, rollout)
    highest = max(window["e_value"] for rollout in judged for window in rollout.windows)
    grid[0].set_ylim(1e-3, max(1e3, 10 ** math.ceil(math.log10(highest) + 0.5)))
    grid[0].set_ylabel("evidence against the canary")
    figure.legend(
        *grid[0].get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False, fontsize=8.5,
        labelcolor=_INK,
    )  # fmt: skip
    return _svg(figure)


def _evidence_of(axes: Any, rollout: RolloutFact) -> None:
    start = next(at for at, weight in rollout.weights if weight > 0)
    for metric, colour in _METRICS.items():
        of = [window for window in rollout.windows if window["metric"] == metric]
        # Before anything is counted there is no evidence either way: 1.
        times = [0.0, *(seconds_of(window["at"]) - start for window in of)]
        found = [1.0, *(max(window["e_value"], 1e-6) for window in of)]
        axes.plot(times, found, color=colour, label=metric, linewidth=1.8, marker=".", ms=3)
        if of:
            axes.axhline(of[0]["limit"], color=colour, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds of live traffic")
    state = "rolled back" if rollout.told["state"] == "Degraded" else rollout.told["state"].lower()
    axes.set_title(f"{rollout.told['to']['id']}: {state}", fontsize=10, color=_INK, loc="left")
    _style(axes)


def _figure(height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, height), layout="constrained")
    return figure, figure.subplots()


def _edges(report: Report) -> list[float]:
    """Left edges of the bins, in seconds since the demo began."""
    first, last = report.sent[0].at - report.started, report.sent[-1].at - report.started
    count = int((last - first) / BIN_SECONDS) + 1
    return [first + BIN_SECONDS * number for number in range(count)]


def _binned(report: Report, edges: Sequence[float], revision: str | None) -> list[list[Any]]:
    """The requests of one revision (None: of all) by bin."""
    bins: list[list[Any]] = [[] for _ in edges]
    for one in report.sent:
        if revision is None or one.revision == revision:
            number = int((one.at - report.started - edges[0]) / BIN_SECONDS)
            bins[min(max(number, 0), len(bins) - 1)].append(one)
    return bins


def _revisions(report: Report) -> list[str]:
    return sorted({one.revision for one in report.sent})


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _finish_time_axis(axes: Any, report: Report) -> None:
    axes.set_xlabel("seconds since the demo began")
    axes.set_xlim(report.sent[0].at - report.started, report.finished - report.started)
    for number, (at, _) in enumerate(report.acts, 1):
        moment = at - report.started
        if moment >= axes.get_xlim()[0] - 10:
            place = max(moment, axes.get_xlim()[0])
            axes.axvline(place, color=_INK, linewidth=0.7, linestyle=":")
            axes.annotate(
                f"act {number}", (place, 1.0), xycoords=("data", "axes fraction"), va="bottom", fontsize=8.5, color=_INK
            )
    _style(axes)


def _style(axes: Any) -> None:
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=_INK, labelsize=8.5, length=0)
    axes.minorticks_off()
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_fontsize(9)
        label.set_color(_INK)


def _legend(figure: Any) -> None:
    figure.legend(loc="outside upper right", ncols=6, frameon=False, fontsize=8.5, labelcolor=_INK)


def _svg(figure: Any) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return stream.getvalue()[stream.getvalue().index("<svg") :]
