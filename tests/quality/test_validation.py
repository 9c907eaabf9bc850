import json
import warnings

import pandas as pd
import pytest

from headrace.contracts.verdict import Outcome
from headrace.errors import DocumentError
from headrace.quality.validation import load_suite, validate
from headrace.quality.validation.report import html
from headrace.quality.validation.suite import sentence

SUITE = {
    "name": "flights",
    "expectations": [
        {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 5, "max_value": 1000}},
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "carrier"}},
        {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "origin", "value_set": ["EWR", "JFK"]}},
        {
            "type": "expect_column_mean_to_be_between",
            "kwargs": {"column": "air_time", "min_value": 60, "max_value": 240},
        },
        {
            "type": "expect_column_values_to_be_between",
            "kwargs": {"column": "air_time", "min_value": 20, "max_value": 700, "mostly": 0.9},
        },
    ],
}


@pytest.fixture(scope="module", autouse=True)
def great_expectations():
    """The library, imported once: it warns of its own parts while it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations

    return great_expectations


@pytest.fixture
def write(tmp_path):
    """Writes a suite file."""

    def write(content):
        file = tmp_path / "flights.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return file

    return write


@pytest.fixture
def judge(write):
    """The verdict on a table of ten flights, some of its columns changed."""

    def judge(suite=SUITE, **changed):
        columns = {"carrier": ["AA", "UA"] * 5, "origin": ["EWR", "JFK"] * 5, "air_time": [100.0, 200.0] * 5, **changed}
        table = pd.DataFrame({name: values for name, values in columns.items() if values is not None})
        return validate(table, load_suite(write(suite)))

    return judge


def _failed(verdict):
    return [one for one in verdict.evidence["expectations"] if not one["success"]]


def test_a_good_table_passes(judge):
    verdict = judge()
    assert (verdict.outcome, verdict.summary) == (Outcome.PASSED, "all 5 expectations hold")
    evidence = verdict.evidence
    assert (evidence["rows"], evidence["columns"], evidence["suite"]) == (10, 3, "flights")
    assert [one["column"] for one in evidence["expectations"]] == ["", "carrier", "origin", "air_time", "air_time"]
    assert json.loads(json.dumps(verdict.to_dict()))["outcome"] == "passed"


def test_the_library_does_not_talk_of_itself_in_the_log(judge, caplog):
    caplog.set_level("INFO")
    assert judge().outcome is Outcome.PASSED
    assert caplog.records == []


def test_missing_values_fail_and_are_counted(judge):
    verdict = judge(carrier=["AA", None] * 5)
    assert verdict.outcome is Outcome.FAILED
    assert verdict.summary == (
        "1 of 5 expectations do not hold: carrier: column values to not be null: 5 rows (50.0 %) break it"
    )
    (failed,) = _failed(verdict)
    assert (failed["unexpected"], failed["unexpected_percent"], failed["error"]) == (5, 50.0, "")


def test_a_wrong_unit_is_found_by_the_mean_and_by_the_range(judge):
    verdict = judge(air_time=[1.7, 3.3] * 5)
    assert verdict.outcome is Outcome.FAILED
    mean, values = verdict.summary.split(": ", 1)[1].split("; ")
    assert mean == "air_time: column mean to be between (min_value 60, max_value 240): found 2.5"
    assert values.startswith("air_time: column values to be between (mostly 0.9, min_value 20, max_value 700): 10 rows")
    assert "such as 1.7, 3.3" in values
    assert _failed(verdict)[0]["observed"] == pytest.approx(2.5)


def test_values_outside_a_set_are_shown(judge):
    (failed,) = _failed(judge(origin=["EWR"] * 9 + ["LGA"]))
    assert failed["examples"] == ["LGA"]
    assert sentence(failed).endswith("1 rows (10.0 %) break it, such as LGA")


def test_most_values_are_enough_where_the_suite_says_mostly(judge):
    assert judge(air_time=[100.0] * 9 + [900.0]).outcome is Outcome.PASSED


def test_a_missing_column_is_an_error_and_never_a_pass(judge):
    verdict = judge(origin=None)
    assert verdict.outcome is Outcome.ERROR
    (failed,) = _failed(verdict)
    assert failed["column"] == "origin"
    assert "origin" in failed["error"]
    assert "1 of 5 expectations do not hold: origin: column values to be in set" in verdict.summary
    json.dumps(verdict.to_dict())


def test_an_empty_table_fails(judge):
    verdict = judge(carrier=[], origin=[], air_time=[])
    assert verdict.outcome is not Outcome.PASSED
    assert verdict.summary.count("found 0") == 1
    json.dumps(verdict.to_dict())


def test_dates_and_numbers_of_all_kinds_are_evidence_that_can_be_written_down(judge):
    suite = {
        "expectations": [
            {"type": "expect_column_values_to_be_null", "kwargs": {"column": "day"}},
            {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "seats", "value_set": [1]}},
            {"type": "expect_column_max_to_be_between", "kwargs": {"column": "seats", "max_value": 3}},
        ]
    }
    verdict = judge(suite, day=pd.date_range("2013-01-01", periods=10), seats=pd.array(range(10), dtype="Int64"))
    assert len(_failed(verdict)) == 3
    assert verdict.evidence["suite"] == "flights"
    assert "2013-01-02" in json.dumps(verdict.to_dict())
    assert verdict.outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("content", "line", "field", "words"),
    [
        ("{", 1, "", "not valid JSON"),
        ('{"name": "x",\n "expectations": [}', 2, "", "not valid JSON"),
        ([], None, "expectations", "has no expectations"),
        ({"expectations": []}, None, "expectations", "has no expectations"),
        ({"expectations": {}}, None, "expectations", "has no expectations"),
        ({"expectations": ["expect_it"]}, None, "expectations[0]", "is not an expectation"),
        ({"expectations": [{"kwargs": {}}]}, None, "expectations[0]", "is not an expectation"),
        ({"expectations": [{"type": 7}]}, None, "expectations[0]", "is not an expectation"),
        (
            {"expectations": [*SUITE["expectations"], {"type": "expect_to_be_rich"}]},
            None, "expectations[5]", "'expect_to_be_rich' is not an expectation that can be made",
        ),
        (
            {"expectations": [{"type": "expect_column_mean_to_be_between", "kwargs": {"colum": "a"}}]},
            None, "expectations[0]", "colum",
        ),
    ],
)  # fmt: skip
def test_a_broken_suite_is_named_with_its_file_and_place(write, content, line, field, words):
    file = write(content)
    with pytest.raises(DocumentError) as caught:
        load_suite(file)
    assert (caught.value.file, caught.value.line, caught.value.field) == (str(file), line, field)
    assert words in caught.value.problem


def test_a_suite_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DocumentError, match=r"nothing\.json: cannot be read: No such file"):
        load_suite(tmp_path / "nothing.json")


def test_the_report_shows_what_fails_first_and_escapes_what_it_shows(judge):
    page = html(judge(origin=["<b>x</b>"] * 10), "flights <1>")
    assert '<span class="failed">failed</span>' in page
    assert "10 rows, 3 columns, suite flights." in page
    assert page.index("✗") < page.index("✓")
    assert "<b>x</b>" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "flights &lt;1&gt;" in page
    assert (page.count("✗"), page.count("✓")) == (1, 4)


def test_the_report_of_an_error_says_so(judge):
    page = html(judge(air_time=None), "flights")
    assert '<span class="error">error</span>' in page
    assert page.count("✗") == 2
