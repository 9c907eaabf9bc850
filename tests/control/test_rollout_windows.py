"""What is told of each window: the test of its metric so far, as the verdicts have it."""

import pytest

from headrace.contracts import rollout_document
from headrace.control.rollouts import judging, queries
from headrace.errors import NotFoundError
from headrace.serving import payload_log
from headrace.serving.gateway import UserRequest

HEAD = "apiVersion: headrace.dev/v1alpha1\nkind: Rollout\nmetadata: {name: delay}\n"
METRICS = "{name: errors, weight: 2}, {name: latency, threshold: 100ms, margin: 1.25}"


def _windows(stage, rollout, metric, **more):
    return [one for one in queries.windows_json(stage.database, rollout, **more) if one["metric"] == metric]


def _verdict(stage, rollout):
    """The newest verdict's metrics by name."""
    metrics = queries.rollout_json(stage.database, rollout)["latest_verdict"]["evidence"]["metrics"]
    return {metric["name"]: metric for metric in metrics}


def _same_as_the_verdict(stage, rollout, metric):
    newest = _windows(stage, rollout, metric)[-1]
    judged = _verdict(stage, rollout)[metric]
    assert [newest[name] for name in ("e_value", "limit", "ratio_interval")] == [
        judged[name] for name in ("e_value", "limit", "ratio_interval")
    ]
    return newest


@pytest.fixture
def walked(stage):
    """Forty seconds of counts that are no round numbers, on two metrics."""
    rollout = stage.canary("{setWeight: 5}, {pause: {}}", metrics=METRICS)
    for i in range(40):
        stage.traffic.serve("delay-00002", 137 + i, bad=i % 3, slow=i % 7)
        stage.traffic.serve("delay-00001", 911 + i, bad=2 + i % 5, slow=11)
        stage.step(1)
    assert stage.row(rollout).state == "Paused"
    return rollout


def test_the_newest_window_says_what_the_newest_verdict_says_to_the_last_digit(stage, walked):
    for metric in ("errors", "latency"):
        newest = _same_as_the_verdict(stage, walked, metric)
        low, high = newest["ratio_interval"]
        assert 1 / 64 < low < newest["ratio"] < high < 64
    errors = stage.totals(walked)
    # The base rates stand still, so the estimate is about the quotient of the totals.
    rates = [x / n for n, x in (errors.canary, errors.stable)]
    assert _windows(stage, walked, "errors")[-1]["ratio"] == pytest.approx(rates[0] / rates[1], rel=0.05)


def test_an_interval_that_narrows_is_told_window_by_window(stage, walked):
    found = _windows(stage, walked, "errors")
    assert len(found) == 40
    assert found[0]["ratio_interval"][0] == 1 / 64, "nothing bad on the canary yet"
    widths = [one["ratio_interval"][1] / one["ratio_interval"][0] for one in found]
    assert widths[0] > widths[10] > widths[20] > widths[-1]
    assert all(one["limit"] == found[0]["limit"] for one in found)


@pytest.mark.parametrize("points", [1, 2, 7, 39, 40, 1000])
def test_few_points_are_some_of_all_to_the_last_digit_and_the_newest_is_one_of_them(stage, walked, points):
    every = queries.windows_json(stage.database, walked)
    told = queries.windows_json(stage.database, walked, points=points)
    assert [one for one in every if one in told] == told
    for metric in ("errors", "latency"):
        of_metric = [one for one in told if one["metric"] == metric]
        assert points / 2 <= len(of_metric) <= points or len(of_metric) == 40 < points
        assert of_metric[-1] == [one for one in every if one["metric"] == metric][-1]
    assert queries.windows_json(stage.database, walked, newest=3) == every[-6:]


def test_while_nothing_bad_happened_with_the_old_one_there_is_no_estimate(stage):
    rollout = stage.canary()
    stage.window((40, 8), (760, 0))
    newest = _same_as_the_verdict(stage, rollout, "errors")
    assert newest["ratio"] is None
    assert newest["ratio_interval"][0] > 1
    assert newest["ratio_interval"][1] == 64.0


def test_users_are_compared_as_users(stage):
    document = (
        f"{HEAD}spec:\n  strategy: {{canary: {{sticky: {{header: x}}, steps: [{{setWeight: 50}}, {{pause: {{}}}}]}}}}\n"
    )
    stage.stable()
    rollout = stage.ask(document + "  analysis: {warmup: 0s, interval: 1s}\n", model="models:/m/2")
    stage.step()
    for second in range(6):
        stage.traffic.asked = [
            UserRequest(f"delay-0000{1 + user % 2}", f"u{user}", user % 9 == second, 5.0) for user in range(200)
        ]
        stage.step(1)
    newest = _same_as_the_verdict(stage, rollout, "errors")
    assert 1 / 64 < newest["ratio_interval"][0] < newest["ratio"] < newest["ratio_interval"][1] < 64


def test_labels_of_the_watch_are_compared_with_the_watchs_share_of_alpha(stage, home, monkeypatch, both_predict):
    monkeypatch.setattr("headrace.serving.payload_log.time.time", lambda: stage.clock.time)
    document = (
        f"{HEAD}spec:\n  strategy: {{canary: {{steps: [{{setWeight: 50}}, {{pause: {{duration: 1s}}}}]}}}}\n"
        "  analysis: {interval: 1s, warmup: 0s}\n"
        "  watch: {duration: 60s, metrics: [{name: labels}, {name: errors, weight: 3}]}\n"
    )
    stage.stable()
    rollout = stage.ask(document, model="models:/m/2")
    stage.step()
    both_predict()
    while stage.row(rollout).state != "Healthy":
        stage.step(1)
    wrong = {1: 40, 2: 50}
    labels = [(f"{n}-{i}", 0 if i < wrong[n] else 1) for n in wrong for i in range(400)]
    payload_log.record_labels(home, "delay", labels, at=stage.clock.now())
    stage.step(1)
    newest = _same_as_the_verdict(stage, rollout, "labels")
    assert newest["limit"] == 1 / (0.05 / 4)
    assert newest["ratio"] == pytest.approx(50 / 40)


@pytest.mark.parametrize(
    ("strategy", "metric"),
    [
        ("{shadow: {minRequests: 1000}}", "disagreement"),
        ("{abTest: {sticky: {header: x}, duration: 1h, metric: {name: bought}}}", "bought"),
        ("{abTest: {sticky: {header: x}, duration: 1h, metric: {name: spent, kind: mean}}}", "spent"),
    ],
)
def test_what_another_test_is_made_of_has_no_ratio(stage, strategy, metric):
    stage.stable()
    document = f"{HEAD}spec:\n  strategy: {strategy}\n  analysis: {{warmup: 0s, interval: 1s}}\n"
    rollout = stage.ask(document, model="models:/m/2")
    for _ in range(5):
        stage.window((20, 1), (20, 1))
    newest = _windows(stage, rollout, metric)[-1]
    assert (newest["limit"], newest["ratio"], newest["ratio_interval"]) == (None, None, None)
    assert _windows(stage, rollout, "errors")[-1]["ratio_interval"] is not None


def test_there_are_no_windows_of_what_is_not_there(stage):
    with pytest.raises(NotFoundError):
        queries.windows_json(stage.database, "nope")


BOTH = "  analysis: {metrics: [{name: errors}, {name: latency, threshold: 100ms}, {name: labels}]}\n"


@pytest.mark.parametrize(
    ("strategy", "more", "words"),
    [
        (
            "{canary: {steps: []}}", BOTH,
            {
                "errors": "requests that failed", "latency": "requests that took over 100 ms",
                "labels": "predictions that were wrong",
            },
        ),
        (
            "{canary: {sticky: {header: x}, steps: []}}", BOTH,
            {
                "errors": "users who saw a failure", "latency": "users who waited over 100 ms",
                "labels": "users who were told wrong",
            },
        ),
        ("{shadow: {minRequests: 10}}", "", {"disagreement": "answers that differ", "errors": "requests that failed"}),
        ("{abTest: {sticky: {header: x}, duration: 1h, metric: {name: bought}}}", "", {"bought": "conversions"}),
        (
            "{abTest: {sticky: {header: x}, duration: 1h, metric: {name: spent, kind: mean}}}", "",
            {"spent": "values above 0", "errors": "users who saw a failure"},
        ),
        (
            "{blueGreen: {}}", BOTH,
            {
                "watch/errors": "requests that failed (new: since the promotion)",
                "watch/labels": "predictions that were wrong (new: since the promotion)",
            },
        ),
    ],
)  # fmt: skip
def test_what_is_counted_is_said_in_words(strategy, more, words):
    document = rollout_document.parse(f"{HEAD}spec:\n  strategy: {strategy}\n{more}", "rollout.yaml")
    assert {name: judging.events(document, name) for name in words} == words
