"""The report: on the terminal, and as one page that needs nothing but itself."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import click

from headrace.cli import output
from headrace.cli.demo import plots
from headrace.cli.demo.facts import Report, percentile
from headrace.clock import lasting


def tell(report: Report, file: Path) -> None:
    """Print the report's essence."""
    click.secho("\nReport", bold=True)
    output.table(
        ["run", "state", "took", "tasks", "from cache", "why"],
        [(r.run_id, r.state, f"{r.seconds:.1f}s", r.tasks, r.cached, _after_colon(r.reason)) for r in report.runs],
        empty="no run",
    )
    click.echo()
    output.table(
        ["rollout to", "model", "state", "live for", "judged by"],
        [
            (r.told["to"]["id"], r.told["to"]["model"], r.told["state"], f"{r.exposed:.1f}s", _essence(r.told))
            for r in report.rollouts
        ],
        empty="no rollout",
    )
    click.echo()
    output.pairs(_totals(report))
    broken = [check for check in report.checks if not check.held]
    for check in broken:
        click.secho(f"\n✗ {check.act}: {check.what}: {check.seen}", fg="red")
    if report.problem:
        click.secho(f"\n✗ {report.problem}", fg="red")
    verdict = f"all {len(report.checks)} checks held" if report.held else "not everything held"
    click.echo()
    click.secho(f"{verdict} · the report with plots: {file}", fg="green" if report.held else "red", bold=True)


def html(report: Report) -> str:
    """The page."""
    import jinja2

    template = resources.files("headrace.cli.demo").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["after_colon"] = _after_colon
    return environment.from_string(template).render(
        report=report,
        totals=_totals(report),
        traffic=plots.traffic(report),
        latency=plots.latency(report),
        evidence=plots.evidence(report),
        acts=[
            (act, [check for check in report.checks if check.act == act], [r for r in report.runs if r.act == act],
             [r for r in report.rollouts if r.act == act])
            for _, act in report.acts
        ],
    )  # fmt: skip


def _totals(report: Report) -> dict[str, str]:
    answered = [1000 * one.seconds for one in report.sent if one.status == 200]
    rolled_back = [r.exposed for r in report.rollouts if r.told["state"] == "Degraded"]
    stable = report.serving.get("stable") or {}
    totals = {
        "who serves now": f"{stable.get('id')} ({stable.get('model')})" if stable else "unknown",
        "model versions": "; ".join(map(_version, report.models)) or "unknown",
        "requests": f"{len(report.sent):,} sent, {report.failed} failed, {report.labels:,} labels sent back",
        "latency": f"p50 {percentile(answered, 0.5):.0f} ms, p99 {percentile(answered, 0.99):.0f} ms",
        "bad model to rollback": ", ".join(f"{seconds:.1f} s" for seconds in rolled_back) or "none",
        "the demo took": lasting(report.finished - report.started),
    }
    if report.install_seconds is not None:
        totals["installation took"] = lasting(report.install_seconds)
    totals["machine"] = report.machine
    totals["versions"] = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return totals


def _version(model: Any) -> str:
    words = [*model["aliases"], *([f"rollout {model['rollout']}"] if model["rollout"] else [])]
    return f"{model['version']} {', '.join(words)}".strip()


def _essence(told: Any) -> str:
    verdicts = told["verdicts"]
    if not verdicts:
        return "nobody: the first model"
    last = verdicts[-1]
    if last["outcome"] == "failed":
        return str(last["summary"]).partition(";")[0]
    return f"{len(verdicts)} verdicts, all passed"


def _after_colon(text: str) -> str:
    return text.partition(": ")[2] or text
