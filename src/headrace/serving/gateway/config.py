"""Envoy's configuration as plain data: a pure function of the routes.

Reference: https://www.envoyproxy.io/docs/envoy/latest/api-v3/api. Listeners are static; clusters (CDS) and routes
(RDS) come from files that are moved into place, so they stay in force whatever happens to this process.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace.serving.gateway.model import Arm, Route

DOMAIN = "example.com"  # KServe's default ingress domain
ROUTE_TABLE = "services"
CONNECT_TIMEOUT = "1s"
# Milliseconds; a latency threshold of a rollout is one of these.
BUCKETS = (1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 2000, 5000, 10000, 30000, 60000)

_HTTP_OPTIONS = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        # Below the model server's own keep-alive, so that it never closes a connection that is about to be used.
        "common_http_protocol_options": {"idle_timeout": "30s"},
        "explicit_http_config": {"http_protocol_options": {}},
    }
}


def cluster_name(route: Route, arm: Arm) -> str:
    """`namespace/service/revision`: a dot would break the labels of Envoy's metrics."""
    return f"{route.namespace}/{route.service}/{arm.revision_id}"


def bootstrap(folder: Path, port: int, admin_port: int) -> dict[str, Any]:
    """The static part: listener, admin, and where the files are."""
    return {
        "node": {"id": "headrace", "cluster": "headrace"},
        "admin": {"address": _address(admin_port)},
        "stats_flush_interval": "1s",
        "stats_config": {
            "histogram_bucket_settings": [{"match": {"suffix": "upstream_rq_time"}, "buckets": list(BUCKETS)}]
        },
        "dynamic_resources": {"cds_config": _file(folder, "cds.json")},
        "static_resources": {
            "listeners": [
                {
                    "name": "gateway",
                    "address": _address(port),
                    "filter_chains": [{"filters": [_connection_manager(folder)]}],
                }
            ]
        },
    }


def discovery(resources: list[dict[str, Any]]) -> dict[str, Any]:
    """A discovery response file. Its version is the digest of its content: Envoy keeps the old version number when
    nothing has changed."""
    digest = hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()
    return {"version_info": digest[:16], "resources": resources}


def clusters(routes: Sequence[Route]) -> dict[str, Any]:
    """The CDS file: one cluster a revision."""
    return discovery([_cluster(route, arm) for route in routes for arm in route.arms])


def route_table(routes: Sequence[Route]) -> dict[str, Any]:
    """The RDS file: each service by its host name, and by path for whoever has no host name."""
    hosts = [
        {
            "name": f"{route.namespace}/{route.service}",
            "domains": [f"{route.service}.{route.namespace}.{DOMAIN}"],
            "routes": _service_routes(route, {"prefix": "/"}),
        }
        for route in routes
    ]
    by_path = [
        entry for route in routes for match in _paths(route.model_name) for entry in _service_routes(route, match)
    ]
    nothing = _refusal({"prefix": "/"}, 404, "No service answers here.")
    table = {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": ROUTE_TABLE,
        "ignore_port_in_host_matching": True,
        "virtual_hosts": [
            *hosts,
            {"name": "by-path", "domains": ["*"], "routes": [*by_path, nothing]},
        ],
        "response_headers_to_add": [_header("x-headrace-prediction-id", "%REQ(X-REQUEST-ID)%")],
    }
    return discovery([table])


def _service_routes(route: Route, match: dict[str, Any]) -> list[dict[str, Any]]:
    live = [arm for arm in route.arms if arm.weight > 0]
    if not live:
        return [_refusal(match, 503, f"Service {route.service} is not ready.")]
    weighted = [
        {
            "name": cluster_name(route, arm),
            "weight": arm.weight,
            "response_headers_to_add": [_header("x-headrace-revision", arm.revision_id)],
        }
        for arm in live
    ]
    # No retries: a request that failed on the canary must count as one, and reach nobody twice.
    action = {"weighted_clusters": {"clusters": weighted}, "timeout": f"{route.timeout_seconds:.3f}s"}
    return [{"match": match, "route": action}]


def _refusal(match: dict[str, Any], status: int, error: str) -> dict[str, Any]:
    """A route that Envoy itself answers, in the form of the protocol."""
    return {
        "match": match,
        "direct_response": {"status": status, "body": {"inline_string": json.dumps({"error": error})}},
        "response_headers_to_add": [_header("content-type", "application/json")],
    }


def _paths(name: str) -> list[dict[str, Any]]:
    return [
        {"path": f"/v1/models/{name}"},
        {"prefix": f"/v1/models/{name}:"},
        {"path_separated_prefix": f"/v2/models/{name}"},
    ]


def _cluster(route: Route, arm: Arm) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(arm.port)}}
    return {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": cluster_name(route, arm),
        "type": "STATIC",
        "connect_timeout": CONNECT_TIMEOUT,
        "typed_extension_protocol_options": _HTTP_OPTIONS,
        "load_assignment": {
            "cluster_name": cluster_name(route, arm),
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }


def _connection_manager(folder: Path) -> dict[str, Any]:
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
            ".HttpConnectionManager",
            "stat_prefix": "gateway",
            "generate_request_id": True,
            # A caller's own x-request-id is the prediction id that it will send the label for.
            "preserve_external_request_id": True,
            "rds": {"route_config_name": ROUTE_TABLE, "config_source": _file(folder, "rds.json")},
            "http_filters": [
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                }
            ],
        },
    }


def _file(folder: Path, name: str) -> dict[str, Any]:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(folder / name)}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _header(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
