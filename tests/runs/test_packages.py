"""A document comes through as it is, whether it came as a file or as the API's JSON."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contracts import pipeline_spec
from headrace.runs import packages

# What YAML would take for something else: numbers, dates, truth, line ends, what cannot be printed.
TRICKY = ["1e-05", "2026-11-25", "yes", "null", "~", "1_000", "0o7", "a: b", "- x", "# x", "\u2028", "\x85", "\x7f",
          "\t", " x ", "x\n\ny\n", "\U0001f600", "'", '"', "\\", "{", "%YAML", "---", "...", "<<", "=", ""]  # fmt: skip
texts = st.sampled_from(TRICKY) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
trees = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(texts.filter(lambda key: key not in ("pipeline_spec", "platform_spec")), trees, min_size=1)


@settings(max_examples=300, deadline=None)
@given(objects, st.none() | objects)
def test_a_spec_becomes_a_package_and_a_package_the_same_spec(spec, platform):
    sent = spec if platform is None else {"pipeline_spec": spec, "platform_spec": platform}
    came = packages.spec_json(packages.spec_text(sent))
    assert json.dumps(came) == json.dumps(sent)


def test_a_wrapper_without_a_platform_document_is_its_pipeline():
    assert packages.spec_json(packages.spec_text({"pipeline_spec": {"a": 1}, "platform_spec": {}})) == {"a": 1}
    assert packages.spec_json(packages.spec_text({"pipeline_spec": {"a": 1}})) == {"a": 1}


def test_json_is_read_as_json():
    assert packages.spec_json('{"rate": 1e-05}') == {"rate": 1e-05}
    assert packages.spec_json("{rate: 1.0e-05}") == {"rate": 1e-05}


def test_documents_that_others_wrote_mean_the_same_after_the_way_through_the_api(shared):
    files = sorted((shared / "conformance" / "kfp" / "cases").rglob("*.yaml"))
    assert files
    for file in files:
        text = file.read_text(encoding="utf-8")
        before = pipeline_spec.parse(text, file.name)
        after = pipeline_spec.parse(packages.spec_text(packages.spec_json(text)), file.name)
        assert (after.spec, after.platform) == (before.spec, before.platform), file.name
