"""What is public is documented, and what is documented is there."""

import importlib.util
import re
from pathlib import Path

import pytest

from headrace.project import wiring
from headrace.server import kfp
from headrace.server.api import PREFIX
from headrace.server.application import application

ROOT = Path(__file__).parents[1]


def test_the_cli_reference_is_what_help_says():
    spec = importlib.util.spec_from_file_location("make_cli_reference", ROOT / "scripts" / "make_cli_reference.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert script.reference() == written, "run `make docs`"


def test_every_route_of_the_http_interface_is_documented(tmp_path):
    page = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
    # The console's pages are for people.
    routes = [
        route
        for route in application(wiring.build(tmp_path), {}).routes
        if route.path.startswith("/apis/") or route.path in ("/healthz", "/openapi.json")
    ]
    assert len(routes) > 40
    for route in routes:
        path = re.sub(
            r"\{(\w+)\}", lambda found: found[1].upper(), route.path.removeprefix(PREFIX).removeprefix(kfp.PREFIX)
        )
        head, colon, verb = path.partition(":")
        assert head in page, f"{path} is not in docs/http.md"
        assert colon + verb in page, f"{path} is not in docs/http.md"


@pytest.mark.parametrize(
    "page",
    [p.relative_to(ROOT).as_posix() for p in ROOT.glob("*.md")]
    + ["docs/http.md", "docs/serving.md", "docs/security.md", "docs/lineage.md"],
)
def test_links_between_the_pages_lead_somewhere(page):
    file = ROOT / page
    links = re.findall(r"\]\(([^)#\s]+)\)", file.read_text(encoding="utf-8"))
    assert links or page != "README.md"
    for link in links:
        if not link.startswith("http"):
            assert (file.parent / link).exists(), f"{page} links to {link}"
