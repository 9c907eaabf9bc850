import json
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.serving.gateway import config, stats
from headrace.serving.gateway.model import Arm, ArmCounts, Route


def _route(*arms, service="delay", **more):
    values = {"namespace": "default", "model_name": service, "timeout_seconds": 5.0, **more}
    return Route(service=service, arms=arms, **values)


STABLE, CANARY = Arm("delay-00001", 9001, 95), Arm("delay-00002", 9002, 5)


def _table(*routes):
    (table,) = config.route_table(routes)["resources"]
    return {host["name"]: host for host in table["virtual_hosts"]}


def test_a_cluster_is_named_after_its_revision_without_a_dot():
    names = [cluster["name"] for cluster in config.clusters([_route(STABLE, CANARY)])["resources"]]
    assert names == ["default/delay/delay-00001", "default/delay/delay-00002"]
    assert not any("." in name for name in names)


def test_a_cluster_leads_to_its_server_on_this_machine():
    (cluster,) = config.clusters([_route(Arm("delay-00001", 9001, 100))])["resources"]
    (endpoints,) = cluster["load_assignment"]["endpoints"]
    (endpoint,) = endpoints["lb_endpoints"]
    address = endpoint["endpoint"]["address"]["socket_address"]
    assert address == {"address": "127.0.0.1", "port_value": 9001}
    assert cluster["load_assignment"]["cluster_name"] == cluster["name"]


def test_the_split_is_the_weights_and_each_answer_names_its_revision():
    (entry,) = _table(_route(STABLE, CANARY))["default/delay"]["routes"]
    arms = entry["route"]["weighted_clusters"]["clusters"]
    assert [(arm["name"], arm["weight"]) for arm in arms] == [
        ("default/delay/delay-00001", 95),
        ("default/delay/delay-00002", 5),
    ]
    stamps = [arm["response_headers_to_add"][0]["header"] for arm in arms]
    assert stamps == [
        {"key": "x-headrace-revision", "value": "delay-00001"},
        {"key": "x-headrace-revision", "value": "delay-00002"},
    ]
    assert entry["route"]["timeout"] == "5.000s"
    # What has been sent to a server is not sent again.
    assert entry["route"]["retry_policy"]["retry_on"] == "connect-failure,reset-before-request,refused-stream"


@pytest.mark.parametrize(("seconds", "retries"), [(0.005, 0), (0.05, 2), (5.0, 22), (60.0, config.RETRIES)])
def test_no_request_waits_for_a_server_until_it_times_out(seconds, retries):
    (entry,) = _table(replace(_route(STABLE), timeout_seconds=seconds))["default/delay"]["routes"]
    assert entry["route"]["retry_policy"]["num_retries"] == retries


def test_an_arm_without_weight_is_known_and_gets_no_traffic():
    routes = [_route(Arm("delay-00001", 9001, 100), Arm("delay-00002", 9002, 0))]
    assert len(config.clusters(routes)["resources"]) == 2
    (entry,) = _table(*routes)["default/delay"]["routes"]
    assert [arm["name"] for arm in entry["route"]["weighted_clusters"]["clusters"]] == ["default/delay/delay-00001"]


@pytest.mark.parametrize("arms", [(), (Arm("delay-00001", 9001, 0),)])
def test_a_service_that_nobody_serves_answers_503_in_json(arms):
    (entry,) = _table(_route(*arms))["default/delay"]["routes"]
    assert entry["direct_response"]["status"] == 503
    assert json.loads(entry["direct_response"]["body"]["inline_string"]) == {"error": "Service delay is not ready."}


def test_a_service_is_found_by_its_host_and_by_the_paths_of_its_model():
    hosts = _table(_route(STABLE, CANARY, namespace="prod", model_name="late"))
    assert hosts["prod/delay"]["domains"] == ["delay.prod.example.com"]
    *paths, nothing = hosts["by-path"]["routes"]
    assert [path["match"] for path in paths] == [
        {"path": "/v1/models/late"},
        {"prefix": "/v1/models/late:"},
        {"path_separated_prefix": "/v2/models/late"},
    ]
    assert nothing["direct_response"]["status"] == 404


def test_services_do_not_mix():
    hosts = _table(_route(STABLE), _route(Arm("price-00001", 9003, 100), service="price"))
    clusters = [
        arm["name"]
        for entry in hosts["by-path"]["routes"][:-1]
        for arm in entry["route"]["weighted_clusters"]["clusters"]
    ]
    assert clusters == ["default/delay/delay-00001"] * 3 + ["default/price/price-00001"] * 3


def test_the_version_follows_the_content():
    before, same, after = (config.route_table([_route(arm)]) for arm in (STABLE, STABLE, CANARY))
    assert before["version_info"] == same["version_info"] != after["version_info"]
    assert config.clusters([])["version_info"] != config.route_table([])["version_info"]


def test_the_bootstrap_listens_on_this_machine_only_and_reads_the_files_in_the_folder():
    boot = config.bootstrap(Path("/state"), 8081, 9901)
    text = json.dumps(boot)
    assert "/state/cds.json" in text
    assert "/state/rds.json" in text
    (listener,) = boot["static_resources"]["listeners"]
    assert listener["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 8081}
    assert boot["admin"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 9901}


def test_the_counts_of_a_revision_are_read_from_envoys_stats():
    cluster = "cluster.default/delay/delay-00001"
    buckets = [{"upper_bound": edge, "cumulative": number} for edge, number in ((10, 60), (50, 90), (100, 100))]
    told = {
        "stats": [
            {"name": f"{cluster}.upstream_rq_completed", "value": 100},
            {"name": f"{cluster}.upstream_rq_5xx", "value": 7},
            {"name": "cluster.default/delay/delay-00002.upstream_rq_completed", "value": 3},
            {"name": "http.gateway.downstream_rq_5xx", "value": 9},
            {"histograms": [{"name": f"{cluster}.upstream_rq_time", "buckets": buckets}]},
        ]
    }
    assert stats.arm_counts(told) == {
        "delay-00001": ArmCounts(100, 7, {10.0: 60, 50.0: 90, 100.0: 100}),
        "delay-00002": ArmCounts(3, 0, {}),
    }
    assert stats.arm_counts({}) == {}


@pytest.mark.parametrize(("threshold", "slow"), [(10, 40), (11, 10), (50, 10), (100, 0), (200, 0)])
def test_slow_requests_are_those_above_the_next_edge(threshold, slow):
    assert ArmCounts(100, 0, {10.0: 60, 50.0: 90, 100.0: 100}).slower_than(threshold) == slow
