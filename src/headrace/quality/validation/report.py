"""A validation verdict as a page that a person reads."""

from __future__ import annotations

from headrace.contracts.verdict import Verdict
from headrace.quality.validation.suite import sentence

_PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<style>
 body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; color: #1b2733 }
 h1 { font-size: 1.4rem } .passed { color: #1a7f37 } .failed, .error { color: #b42318 }
 table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .35rem .6rem;
 border-bottom: 1px solid #d8dee4 } th { font-weight: 600 }
</style></head><body>
<h1>{{ title }}: <span class="{{ verdict.outcome }}">{{ verdict.outcome }}</span></h1>
<p>{{ verdict.evidence.rows }} rows, {{ verdict.evidence.columns }} columns, suite {{ verdict.evidence.suite }}.</p>
<table><tr><th></th><th>column</th><th>expectation</th></tr>
{% for one in findings %}<tr><td class="{{ 'passed' if one.success else 'failed' }}">
{{ '✓' if one.success else '✗' }}</td><td>{{ one.column }}</td><td>{{ one.sentence }}</td></tr>
{% endfor %}</table></body></html>
"""


def html(verdict: Verdict, title: str) -> str:
    """The page: what does not hold comes first."""
    import jinja2

    findings = [{**one, "sentence": sentence(one)} for one in verdict.evidence["expectations"]]
    findings.sort(key=lambda one: one["success"])
    environment = jinja2.Environment(autoescape=True)
    return environment.from_string(_PAGE).render(title=title, verdict=verdict, findings=findings)
