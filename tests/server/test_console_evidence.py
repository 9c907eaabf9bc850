"""Evidence of any shape becomes words and tables, and says which way a figure went only where it can."""

import pytest

from headrace.contracts.verdict import Outcome, Verdict
from headrace.server.console.evidence import Row, better, change, items


def only(value):
    (item,) = items({"it": value})
    return item


def test_text_and_numbers_are_said():
    assert only("AUC 0.7").text == "AUC 0.7"
    assert only(11166).text == "11,166"
    assert only(True).text == "yes"
    assert only(None).text == ""
    assert only([1, "a"]).text == "1, a"
    assert only({}).text == only([]).text == "nothing"


def test_a_verdict_has_its_outcome_its_sentence_and_its_figures():
    verdict = Verdict(Outcome.FAILED, "1 of 2 failed", {"rows": 3, "suite": "x", "deep": [{"a": 1}]})
    item = only(verdict.to_dict())
    assert (item.outcome, item.text) == ("failed", "1 of 2 failed")
    assert item.rows == [Row("rows", [3]), Row("suite", ["x"]), Row("deep", ["a 1"])]
    assert only(Verdict(Outcome.INCONCLUSIVE, "too few").to_dict()).rows is None


def test_sides_are_columns_and_are_compared_whichever_way_they_were_written():
    by_side = only({"champion": {"auc": 0.5, "rows": 9}, "challenger": {"auc": 0.75, "rows": 9}})
    by_metric = only({"auc": {"champion": 0.5, "challenger": 0.75}, "rows": {"champion": 9, "challenger": 9}})
    assert by_side == by_metric
    assert by_side.columns == ["champion", "challenger"]
    assert by_side.rows == [Row("auc", [0.5, 0.75], "0.25 higher (50 %)", True), Row("rows", [9, 9], "the same", None)]
    assert only({"old": 2, "new": 1}).rows == [Row("it", [2, 1], "1 lower (50 %)", None)]


def test_records_are_a_table():
    item = only([{"slice": "AA", "n": 3}, {"slice": "UA", "auc": 0.5}])
    assert item.columns == ["n", "auc"]
    assert item.rows == [Row("AA", [3, ""]), Row("UA", ["", 0.5])]


@pytest.mark.parametrize("value", [[{}], [{"a": 1}, 2], {"a": {}}, {"champion": {}, "challenger": {}}, {"old": 1}])
def test_other_shapes_are_shown_too(value):
    assert only(value).name == "it"


def test_what_is_long_is_cut_and_told():
    item = only({f"m{number}": number for number in range(103)})
    assert (len(item.rows), item.left_out) == (100, 3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("auc", True), ("val_accuracy", True), ("rmse", False), ("log_loss", False), ("test.error_rate", False),
        ("neg_mean_squared_error", True), ("brier_score", False), ("rows", None), ("mapping", None),
    ],
)  # fmt: skip
def test_which_way_is_better_follows_from_the_name_or_is_not_said(name, expected):
    assert better(name, 1, 2) is expected
    assert better(name, 2, 1) is (None if expected is None else not expected)
    assert better(name, 1, 1) is None
    assert better(name, "1", 2) is None


def test_a_change_is_told_in_words():
    assert change(0, 3) == "3 higher"
    assert change(-2.0, -1.0) == "1 higher (50 %)"
    assert change(True, 2) == change(None, 2) == ""
