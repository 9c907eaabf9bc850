"""Paging, sorting and filtering, on a real table."""

import contextlib
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.clock import rfc3339
from headrace.errors import UsageError
from headrace.runs import experiments, v2beta1
from headrace.runs.listing import ListQuery, filter_conditions, page

LISTABLE = experiments.LISTABLE


@pytest.fixture
def made(database):
    """Five experiments beside the Default one, a second apart."""
    names = ["beta", "alpha", "Gamma 50%", "delta_x", "epsilon"]
    for number, name in enumerate(names):
        experiments.create(database, name=name, description=name[0], actor="user:t", at=100.25 + number)
    return names


def _names(database, **query):
    return [row["name"] for row in page(database, LISTABLE, ListQuery(**query)).rows if row["name"] != "Default"]


def _filter(operation, key, **value):
    return json.dumps({"predicates": [{"operation": operation, "key": key, **value}]})


def test_pages_follow_each_other_without_gap_or_repetition(database, made):
    for sort in ("", "created_at", "created_at desc", "display_name", "NAME DESC", "description asc"):
        whole = [row["id"] for row in page(database, LISTABLE, ListQuery(sort_by=sort)).rows]
        for size in (1, 2, 4, 6, 7):
            found, query = [], ListQuery(page_size=size, sort_by=sort)
            while True:
                got = page(database, LISTABLE, query)
                assert len(got.rows) <= size
                assert got.total_size == 6
                found += [row["id"] for row in got.rows]
                if not got.next_page_token:
                    break
                query = ListQuery(page_size=size, page_token=got.next_page_token)
            assert found == whole


def test_rows_of_the_same_moment_are_not_lost_between_pages(database):
    for number in range(7):
        experiments.create(database, name=f"e{number}", description="", actor="user:t", at=5.0)
    seen, token = [], ""
    while token is not None:
        got = page(database, LISTABLE, ListQuery(page_size=3, page_token=token))
        seen += [row["name"] for row in got.rows]
        token = got.next_page_token or None
    assert sorted(seen) == sorted(["Default", *(f"e{number}" for number in range(7))])


def test_what_is_added_meanwhile_does_not_shift_a_page(database, made):
    first = page(database, LISTABLE, ListQuery(page_size=3, sort_by="created_at desc"))
    experiments.create(database, name="late", description="", actor="user:t", at=time.time() + 9)
    rest = page(database, LISTABLE, ListQuery(page_size=9, page_token=first.next_page_token))
    names = [row["name"] for row in [*first.rows, *rest.rows]]
    assert len(names) == len(set(names)) == 6


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (_filter("EQUALS", "display_name", string_value="alpha"), ["alpha"]),
        (_filter(1, "display_name", stringValue="alpha"), ["alpha"]),
        (_filter(1, "name", stringValue="Alpha"), []),
        (_filter(2, "name", string_value="alpha"), ["beta", "Gamma 50%", "delta_x", "epsilon"]),
        (_filter("IS_SUBSTRING", "name", string_value="TA"), ["beta", "delta_x"]),
        (_filter(9, "name", string_value="0%"), ["Gamma 50%"]),
        (_filter(9, "name", string_value="_"), ["delta_x"]),
        (_filter(9, "name", string_value="\\"), []),
        (_filter("IN", "name", string_values={"values": ["beta", "epsilon", "none"]}), ["beta", "epsilon"]),
        (_filter(8, "name", stringValues={"values": []}), []),
        (_filter(3, "created_at", timestamp_value=rfc3339(102.25)), ["delta_x", "epsilon"]),
        (_filter("GREATER_THAN_EQUALS", "created_at", timestampValue=rfc3339(103.25)), ["delta_x", "epsilon"]),
        (_filter("LESS_THAN", "created_at", long_value="102"), ["beta", "alpha"]),
        (_filter("LESS_THAN_EQUALS", "created_at", int_value=101), ["beta"]),
        (_filter("EQUALS", "created_at", timestamp_value="1970-01-01T00:01:40.25Z"), ["beta"]),
        (_filter("IN", "created_at", long_values={"values": [1, "2"]}), []),
        (json.dumps({}), ["beta", "alpha", "Gamma 50%", "delta_x", "epsilon"]),
        ("%7B%22predicates%22%3A%20%5B%5D%7D", ["beta", "alpha", "Gamma 50%", "delta_x", "epsilon"]),
    ],
)
def test_filters_in_both_spellings(database, made, text, found):
    assert _names(database, filter=text) == found


def test_several_predicates_hold_together(database, made):
    both = json.dumps(
        {"predicates": [json.loads(_filter(9, "name", string_value="ta"))["predicates"][0],
                        json.loads(_filter(1, "description", string_value="d"))["predicates"][0]]}
    )  # fmt: skip
    assert _names(database, filter=both) == ["delta_x"]


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", "5", "null", '{"predicates": 5}', '{"predicates": [5]}', '{"predicates": [{}]}', '"\\ud800"',
        _filter("EQUALS", "nothing", string_value="x"), _filter("EQUALS", ["name"], string_value="x"),
        _filter("LIKE", "name", string_value="x"), _filter(4, "name", string_value="x"),
        _filter(True, "name", string_value="x"), _filter("EQUALS", "name"), _filter("EQUALS", "name", int_value=1),
        _filter("EQUALS", "name", string_value=1), _filter("EQUALS", "name", string_value="x", int_value=1),
        _filter("EQUALS", "name", string_values={"values": ["x"]}), _filter("IN", "name", string_value="x"),
        _filter("IN", "name", string_values=["x"]), _filter("IN", "name", string_values={"values": [1]}),
        _filter("IS_SUBSTRING", "created_at", string_value="1"), _filter("EQUALS", "name", value="x"),
        _filter("EQUALS", "created_at", timestamp_value="yesterday"), _filter("EQUALS", "created_at", int_value=2**70),
        _filter("EQUALS", "created_at", int_value=1.5), _filter("EQUALS", "created_at", long_value="x"),
        _filter("EQUALS", "created_at", timestamp_value="0001-01-01T00:00:00Z"),
        _filter("EQUALS", "created_at", timestamp_value="2026-01-01T00:00:00"),
    ],
)  # fmt: skip
def test_a_wrong_filter_is_refused_with_an_example(database, text):
    with pytest.raises(UsageError) as caught:
        page(database, LISTABLE, ListQuery(filter=text))
    assert caught.value.where == "filter"
    assert caught.value.remedy


@pytest.mark.parametrize(
    "query",
    [{"page_size": -1}, {"sort_by": "nothing"}, {"sort_by": "name up"}, {"sort_by": "name desc desc"},
     {"page_token": "x"}, {"page_token": "e30="}, {"page_token": "bnVsbA=="}, {"page_token": "é"}],
)  # fmt: skip
def test_a_wrong_query_is_refused(database, query):
    with pytest.raises(UsageError) as caught:
        page(database, LISTABLE, ListQuery(**query))
    assert caught.value.remedy


def test_a_token_belongs_to_its_criteria(database, made):
    name = _filter(2, "name", string_value="x")
    first = page(database, LISTABLE, ListQuery(page_size=1, sort_by="name desc", filter=name))
    same = ListQuery(page_token=first.next_page_token, sort_by="name desc", filter=name)
    assert len(page(database, LISTABLE, same).rows) == 5
    for other in ({"sort_by": "name"}, {"filter": _filter(1, "name", string_value="x")}):
        with pytest.raises(UsageError, match="page token does not match"):
            page(database, LISTABLE, ListQuery(page_token=first.next_page_token, **other))


def test_pages_are_at_most_as_large_as_kfps(database):
    for number in range(205):
        experiments.create(database, name=f"e{number}", description="", actor="user:t", at=5.0)
    assert len(page(database, LISTABLE, ListQuery()).rows) == 20
    assert len(page(database, LISTABLE, ListQuery(page_size=10_000)).rows) == 200


words = st.sampled_from(
    ["operation", "key", "string_value", "predicates", "values", "int_value", "stringValues", "created_at"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | words | st.text(max_size=5),
    lambda inner: st.lists(inner) | st.dictionaries(words, inner),
)


@settings(max_examples=200, deadline=None)
@given(values)
def test_no_json_is_more_than_refused(value):
    for listable in (LISTABLE, v2beta1.LISTABLE):
        with contextlib.suppress(UsageError):
            conditions = filter_conditions(listable, json.dumps({"predicates": [value]}))
            assert all(condition.sql.count("?") == len(condition.parameters) for condition in conditions)
