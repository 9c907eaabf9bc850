"""The tables of model servers in docs/benchmarks.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.serving.measurements import CASES, ROWS
from bench.serving.tools import TOOLS

START, END = "<!-- bench-serving:start -->", "<!-- bench-serving:end -->"
Results = dict[str, Any]
_TITLES = {tool.name: tool.title for tool in TOOLS}
_ROWS = {
    "single": "One row a request, 16 connections", "gateway": "The same through the gateway (Envoy)",
    "alone": "One row a request, 1 connection", "alone-gateway": "The same through the gateway (Envoy), 1 connection",
    "batch": "1,000 rows a request as JSON, 2 connections", "binary": "1,000 rows a request as bytes, 2 connections",
    "many": "One row a request, 64 connections",
}  # fmt: skip
_NOT_PEERS = ("constant", "headrace", "headrace-alone", "headrace-original")


def write(page: Path, results: Results) -> None:
    """Put the tables between the page's markers."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{START}\n{render(results)}\n{END}{after}", encoding="utf-8")


def render(results: Results) -> str:
    """All that was measured, first what was to be reached."""
    parts = [_head(results), _targets(results), _starts(results)]
    parts += [_case(results, row, model) for row in ROWS for model in ("iris", "flights") if _has(results, row, model)]
    notes = [f"- {tool.title}: {tool.note}." for tool in TOOLS if tool.note and tool.name in results["tools"]]
    return "\n\n".join([*parts, "\n".join(["Notes:", "", *notes])])


def _head(results: Results) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    forms = "; ".join(f"{model}: {why}" for model, why in results["faster"].items())
    return (
        f"{results['machine']}. {results['date']} UTC, load average before: {results['load']:.1f}."
        f" Versions: {versions}.\nFaster forms: {forms}."
    )


def _has(results: Results, row: str, model: str) -> bool:
    return any(case.row == row and case.model == model for case in CASES) and any(
        row in told.get(model, {}).get("cases", {}) for told in results["tools"].values()
    )


def _table(head: list[str], lines: list[list[str]]) -> str:
    rows = [f"| {' | '.join(head)} |", f"|{'|'.join([' --- '] + [' ---: '] * (len(head) - 1))}|"]
    return "\n".join([*rows, *(f"| {' | '.join(line)} |" for line in lines)])


def _starts(results: Results) -> str:
    lines = []
    for name, told in results["tools"].items():
        cells = []
        for model in ("iris", "flights"):
            found = told.get(model)
            if found is None or "problem" in found:
                cells += [found["problem"][:80] if found else "", ""]
            else:
                cells += [f"{found['ready']:.2f}", f"{found['memory']:.0f}"]
        lines.append([_TITLES[name], *cells])
    head = ["start to ready (s), idle memory (MiB, PSS)", "iris: s", "MiB", "flights: s", "MiB"]
    return "### Start and memory\n\n" + _table(head, lines)


def _figures(results: Results, name: str, model: str, row: str) -> dict[str, Any]:
    found: dict[str, Any] = results["tools"].get(name, {}).get(model, {}).get("cases", {}).get(row, {})
    return found


def _case(results: Results, row: str, model: str) -> str:
    own = _figures(results, "headrace", model, row).get("rate", 0.0)
    lines = []
    for name in results["tools"]:
        f = _figures(results, name, model, row)
        if "problem" in f:
            lines.append([_TITLES[name], f["problem"][:80], "", "", "", ""])
        elif f:
            lines.append([
                _TITLES[name], f"{f['rate']:,.0f}", _ms(f["p50"]), _ms(f["p99"]), str(f["failed"]),
                _times(own / f["rate"]) if f["rate"] and own else "",
            ])  # fmt: skip
    head = [model, "requests/s", "p50 ms", "p99 ms", "not 200", "Headrace is"]
    return f"### {_ROWS[row]}: {model}\n\n" + _table(head, lines)


def _times(ratio: float) -> str:
    return f"{ratio:.0f}×" if ratio >= 10 else f"{ratio:.2g}×"


def _ms(value: float | None) -> str:
    return f"{value:.2f}" if value else "-"


def targets(results: Results) -> list[tuple[str, str, bool]]:
    """What was to be reached, what was measured, and whether it was."""
    found: list[tuple[str, str, bool]] = []
    for row, factor in (("gateway", 5.0), ("batch", 3.0), ("binary", 3.0)):
        for model in ("iris", "flights"):
            own = _figures(results, "headrace", model, row)
            peers = [
                f for name in results["tools"] if name not in _NOT_PEERS
                if (f := _figures(results, name, model, row)) and f.get("rate")
            ]  # fmt: skip
            if not own.get("rate") or not peers:
                continue
            best = max(peers, key=lambda f: float(f["rate"]))
            ratio = own["rate"] / best["rate"]
            quick = row != "gateway" or not best["p99"] or own["p99"] <= best["p99"]
            words = f"{_ROWS[row]}, {model}: ≥ {factor:g} × the best peer" + (
                ", p99 not above it" if row == "gateway" else ""
            )
            told = f"{ratio:.2f} ×" + (f", p99 {_ms(own['p99'])} ms to {_ms(best['p99'])}" if row == "gateway" else "")
            found.append((words, told, round(ratio, 2) >= factor and quick))
    own, constant = (_figures(results, name, "iris", "gateway").get("rate", 0.0) for name in ("headrace", "constant"))
    if own and constant:
        words = f"{_ROWS['gateway']}, iris: within 1.5 × of the constant"
        found.append((words, f"{constant / own:.2f} ×", constant / own <= 1.5))
    together, alone = (
        _figures(results, f"headrace-{how}", "flights", "many").get("rate", 0.0) for how in ("original", "alone")
    )
    if together and alone:
        words = "64 connections, flights in scikit-learn: ≥ 2 × with requests put together"
        found.append((words, f"{together / alone:.2f} ×", together / alone >= 2))
    for direct, through, many in (("alone", "alone-gateway", "1 connection"), ("single", "gateway", "16 connections")):
        two = [_figures(results, "headrace", "iris", row).get("p50") for row in (direct, through)]
        if all(two):
            more = two[1] - two[0]
            found.append((f"iris: the gateway adds ≤ 0.3 ms to the p50, {many}", f"{more:.2f} ms", more <= 0.3))
    for name, model in (("headrace", "iris"), ("headrace", "flights"), ("headrace-alone", "iris")):
        told_of = results["tools"].get(name, {}).get(model, {})
        if "ready" in told_of:
            found.append(
                (f"{_TITLES[name]}, {model}: ready in 1.5 s", f"{told_of['ready']:.2f} s", told_of["ready"] <= 1.5)
            )
            memory = told_of["memory"]
            found.append((f"{_TITLES[name]}, {model}: idle under 120 MiB", f"{memory:.0f} MiB", memory < 120))
    return found


def _targets(results: Results) -> str:
    lines = [[text, measured, "yes" if met else "**no**"] for text, measured, met in targets(results)]
    return _table(["to be reached", "measured", "reached"], lines)
