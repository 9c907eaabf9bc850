"""Envoy's configuration as plain data: a pure function of the routes.

Reference: https://www.envoyproxy.io/docs/envoy/latest/api-v3/api. Listeners are static; clusters (CDS) and routes
(RDS) come from files that are moved into place, so they stay in force whatever happens to this process.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace.contracts.rollout import Match, Sticky
from headrace.serving.gateway import users
from headrace.serving.gateway.model import CANARY, GRPC_ERRORS, SHADOW, Arm, Route

DOMAIN = "example.com"  # KServe's default ingress domain
ROUTE_TABLE = "services"
CONNECT_TIMEOUT = "1s"
# Milliseconds; a latency threshold of a rollout is one of these.
BUCKETS = (1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 2000, 5000, 10000, 30000, 60000)

PREVIEW_HEADER = "x-headrace-preview"
GRPC_SERVICE = "/inference.GRPCInferenceService/"
COOKIE_SECONDS = 30 * 24 * 3600
# Connections to a server that has died are refused at once. What nobody has taken is tried again: at the fallback, else
# until the server has been started again, for eight seconds or so. What has been sent is not: it would reach two.
RETRIES = 64
RETRY_SECONDS = (0.01, 0.25)
# As many may wait for that at once; the others are refused.
WAITING = 1024
# A shadow that is slow drops requests instead of piling them up.
SHADOW_REQUESTS = 32
# In the gateway's folder: requests of sticky routes by user, for a moment.
USERS_LOG = "users.log"
_GRPC = "/grpc"
_METADATA = "headrace"
_HTTP_OPTIONS = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_HTTP_FILTERS = "type.googleapis.com/envoy.extensions.filters.http"
_TO_METADATA = "envoy.filters.http.header_to_metadata"
_TO_METADATA_CONFIG = f"{_HTTP_FILTERS}.header_to_metadata.v3.Config"


def cluster_name(route: Route, arm: Arm, kind: str = "") -> str:
    """`namespace/service/revision`: a dot would break the labels of Envoy's metrics."""
    return f"{route.namespace}/{route.service}/{arm.revision_id}{kind}"


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
    """The CDS file: one cluster a revision, one more for its gRPC port, and as many for mirrored requests."""
    return discovery([cluster for route in routes for cluster in _route_clusters(route)])


def route_table(routes: Sequence[Route]) -> dict[str, Any]:
    """The RDS file: each service by its host name, and by path for whoever has no host name."""
    hosts = {_domain(route.service, route): _routes(route, {"prefix": "/"}) for route in routes}
    for route in routes:
        if route.preview:
            alone = [_entry(route, {"prefix": "/"}, [route.preview])]
            # A service that is called like a preview keeps its host name.
            hosts.setdefault(_domain(f"{route.service}-preview", route), _grpc_first(route, [route.preview]) + alone)
    by_path = [entry for route in routes for match in _paths(route.model_name) for entry in _routes(route, match)]
    with_grpc = [route for route in routes if any(arm.grpc_port for arm in route.arms)]
    if len(with_grpc) == 1:
        # The name of the model is inside the message: without a host name it can only be the one service.
        by_path = _grpc_routes(with_grpc[0], {"prefix": GRPC_SERVICE}) + by_path
    nothing = _refusal({"prefix": "/"}, 404, "No service answers here.")
    table = {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": ROUTE_TABLE,
        "ignore_port_in_host_matching": True,
        "virtual_hosts": [
            *({"name": _host_name(domain), "domains": [domain], "routes": found} for domain, found in hosts.items()),
            {"name": "by-path", "domains": ["*"], "routes": [*by_path, nothing]},
        ],
        "response_headers_to_add": [
            _header("x-headrace-prediction-id", "%REQ(X-REQUEST-ID)%"),
            # A fallback that has answered says so in place of the arm. Where there is none, nothing changes.
            *(_header(f"x-headrace-{key}", _of_the_server(key)) for key in ("revision", "arm")),
        ],
    }
    return discovery([table])


def _domain(name: str, route: Route) -> str:
    return f"{name}.{route.namespace}.{DOMAIN}"


def _host_name(domain: str) -> str:
    """`namespace/service`, for the stats of a virtual host."""
    service, namespace = domain.split(".")[:2]
    return f"{namespace}/{service}"


def _routes(route: Route, match: dict[str, Any]) -> list[dict[str, Any]]:
    """Every route of a service below `match`: the narrower ones come first."""
    live = [arm for arm in route.arms if arm.weight > 0]
    if not live:
        return [_refusal(match, 503, f"Service {route.service} is not ready.")]
    # The path of a gRPC request is that of its method, never a model's.
    grpc = _grpc_routes(route, match) if match == {"prefix": "/"} else []
    return grpc + _split(route, match, live)


def _grpc_routes(route: Route, match: dict[str, Any]) -> list[dict[str, Any]]:
    arms = [arm for arm in route.arms if arm.weight > 0 and arm.grpc_port]
    return _split(route, {**match, "grpc": {}}, arms, _GRPC) if arms else []


def _grpc_first(route: Route, arms: Sequence[Arm]) -> list[dict[str, Any]]:
    with_port = [arm for arm in arms if arm.grpc_port]
    return [_entry(route, {"prefix": "/", "grpc": {}}, with_port, _GRPC)] if with_port else []


def _split(route: Route, match: dict[str, Any], live: Sequence[Arm], kind: str = "") -> list[dict[str, Any]]:
    """The preview and the requests that are chosen by what they carry, then everybody by weight."""
    entries = []
    canary = next((arm for arm in route.arms if arm.name == CANARY and (not kind or arm.grpc_port)), None)
    if route.preview and (not kind or route.preview.grpc_port):
        wanted = {"name": PREVIEW_HEADER, "string_match": {"exact": "true"}}
        entries.append(_entry(route, {**match, "headers": [wanted]}, [route.preview], kind))
    if canary:
        entries += [_entry(route, {**match, "headers": [_matcher(one)]}, [canary], kind) for one in route.matches]
    if route.sticky is None:
        return [*entries, _entry(route, match, live, kind)]
    # Who is below the canary's weight stays there when it grows: Envoy takes the first cluster for the low hashes.
    canary_first = sorted(live, key=lambda arm: arm.name != CANARY)
    if route.sticky.cookie:
        known = _cookie_matcher(route.sticky.cookie, "[^;]+")
        entries.append(
            _entry(
                route,
                {**match, "headers": [known]},
                canary_first,
                kind,
                by={"cookie": {"name": route.sticky.cookie}},
                user={"cookie": route.sticky.cookie},
            )
        )
        # The first touch: it is placed by its request id, which becomes the cookie and so hashes to the same arm.
        first = _entry(
            route, match, canary_first, kind, by={"header": {"header_name": "x-request-id"}},
            user={"header": "x-request-id"},
        )  # fmt: skip
        first["response_headers_to_add"] = [_new_cookie(route.sticky)]
        return [*entries, first]
    by, user = {"header": {"header_name": route.sticky.header}}, {"header": route.sticky.header}
    # An empty header is no user: all who send one would be on the arm of its hash.
    empty = {"name": route.sticky.header, "string_match": {"exact": ""}}
    entries.append(_entry(route, {**match, "headers": [empty]}, canary_first, kind, user=user))
    return [*entries, _entry(route, match, canary_first, kind, by=by, user=user)]


def _entry(
    route: Route,
    match: dict[str, Any],
    arms: Sequence[Arm],
    kind: str = "",
    *,
    by: dict[str, Any] | None = None,
    user: dict[str, str] | None = None,
) -> dict[str, Any]:
    """One route to arms, by weight; a single arm takes all. `by` is what a request is placed by, else at random; `user`
    is the same for the log of users."""
    weighted = [
        {
            "name": cluster_name(route, arm, kind),
            "weight": arm.weight if len(arms) > 1 else 100,
            **_told(arm, user is not None),
            "response_headers_to_add": [
                _header("x-headrace-revision", arm.revision_id), _header("x-headrace-arm", arm.name),
            ],
        }
        for arm in arms
    ]  # fmt: skip
    action: dict[str, Any] = {
        "weighted_clusters": {"clusters": weighted},
        "timeout": f"{route.timeout_seconds:.3f}s",
        "retry_policy": _retries(route.timeout_seconds),
    }
    if by:
        action["weighted_clusters"]["use_hash_policy"] = True
        action["hash_policy"] = [by]
    if route.mirror and (not kind or route.mirror.arm.grpc_port):
        share = {"numerator": route.mirror.percent, "denominator": "HUNDRED"}
        action["request_mirror_policies"] = [
            {
                "cluster": cluster_name(route, route.mirror.arm, SHADOW + kind),
                "runtime_fraction": {"default_value": share},
            }
        ]
    return {"match": match, "route": action, **({"typed_per_filter_config": _noted(user)} if user else {})}


def _retries(timeout: float) -> dict[str, Any]:
    """Only for requests of which nothing has been sent, and no more than surely end before the timeout: a request that
    times out between two tries is in none of Envoy's counts. Source:
    https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter#x-envoy-max-retries"""
    first, longest = RETRY_SECONDS
    waits = itertools.accumulate(min(first * (2 ** (n + 1) - 1), longest) for n in range(RETRIES))
    return {
        "retry_on": "connect-failure,reset-before-request,refused-stream",
        "num_retries": sum(wait < timeout for wait in waits),
        "retry_back_off": {"base_interval": f"{first:g}s", "max_interval": f"{longest:g}s"},
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3"
                ".PreviousPrioritiesConfig",
                "update_frequency": 1,
            },
        },
    }


def _of_the_server(key: str) -> str:
    """What the endpoint that answers says of itself; nothing where there is no fallback."""
    return f"%UPSTREAM_METADATA({_METADATA}:{key})%"


def _told(arm: Arm, with_user: bool) -> dict[str, Any]:
    """What a model server is told: the arm, and on sticky routes who asks. Nobody else says the latter, also where
    Envoy keeps no user: one that is empty or long."""
    added = [_header("x-headrace-arm", arm.name)]
    if with_user:
        added.append(_header(users.HEADER, users.VALUE))
    return {"request_headers_to_remove": [users.HEADER], "request_headers_to_add": added}


def _noted(user: dict[str, str]) -> dict[str, Any]:
    """Keep a request's user, from a header or a cookie, where the access log finds it."""
    kept = {"metadata_namespace": users.METADATA, "key": users.KEY, "type": "STRING"}
    nobody = {**kept, "value": users.NOBODY}
    rules = [{**user, "on_header_present": kept}]
    if "header" in user:
        # An empty header is noted as nobody first: its own value, which is none, changes nothing.
        rules = [{**user, "on_header_present": nobody, "on_header_missing": nobody}, *rules]
    return {_TO_METADATA: {"@type": _TO_METADATA_CONFIG, "request_rules": rules}}


def _users_log(folder: Path) -> dict[str, Any]:
    """A line for each request that has a user."""
    known = {"filter": users.METADATA, "path": [{"key": users.KEY}], "value": {"present_match": True}}
    return {
        "name": "envoy.access_loggers.file",
        "filter": {"metadata_filter": {"matcher": known, "match_if_key_not_found": False}},
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(folder / USERS_LOG),
            "log_format": {"text_format_source": {"inline_string": users.FORMAT}},
        },
    }


def _matcher(match: Match) -> dict[str, Any]:
    """Envoy's form of a match by header or cookie."""
    if match.cookie:
        value = {"exact": re.escape(match.value), "prefix": re.escape(match.value) + "[^;]*", "regex": match.value}
        return _cookie_matcher(match.cookie, value[match.how])
    if match.how == "regex":
        return {"name": match.header, "string_match": {"safe_regex": {"regex": match.value}}}
    return {"name": match.header, "string_match": {match.how: match.value}}


def _cookie_matcher(name: str, value: str) -> dict[str, Any]:
    regex = rf"(?:.*;\s*)?{re.escape(name)}=(?:{value})(?:;.*)?"
    return {"name": "cookie", "string_match": {"safe_regex": {"regex": regex}}}


def _new_cookie(sticky: Sticky) -> dict[str, Any]:
    value = f"{sticky.cookie}=%REQ(X-REQUEST-ID)%; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Lax"
    return {"header": {"key": "set-cookie", "value": value}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}


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


def _route_clusters(route: Route) -> list[dict[str, Any]]:
    found = []
    for arm in route.arms:
        other = arm.fallback
        back = [(arm, arm.port), (other, other.port)] if other else []
        found.append(_cluster(cluster_name(route, arm), arm.port, known=back))
        if arm.grpc_port:
            back = [(arm, arm.grpc_port), (other, other.grpc_port)] if other and other.grpc_port else []
            found.append(_cluster(cluster_name(route, arm, _GRPC), arm.grpc_port, http2=True, known=back))
    if route.mirror:
        arm = route.mirror.arm
        found.append(_shadow(cluster_name(route, arm, SHADOW), arm.port))
        if arm.grpc_port:
            found.append(_shadow(cluster_name(route, arm, SHADOW + _GRPC), arm.grpc_port, http2=True))
    return found


def _shadow(name: str, port: int, *, http2: bool = False) -> dict[str, Any]:
    most = {"max_connections": SHADOW_REQUESTS, "max_pending_requests": 1, "max_requests": SHADOW_REQUESTS}
    made = _cluster(name, port, http2=http2, filters=_shadow_filters(http2))
    return {**made, "circuit_breakers": {"thresholds": [most]}}


def _cluster(
    name: str,
    port: int,
    *,
    http2: bool = False,
    filters: list[dict[str, Any]] | None = None,
    known: Sequence[tuple[Arm, int]] = (),
) -> dict[str, Any]:
    """`known`: whose ports are tried, one after the other, and what each is told that it is; else `port` alone."""
    protocol: dict[str, Any] = {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {}}
    options: dict[str, Any] = {
        "@type": _HTTP_OPTIONS,
        # Below the model server's own keep-alive, so that it never closes a connection that is about to be used.
        "common_http_protocol_options": {"idle_timeout": "30s"},
        "explicit_http_config": protocol,
    }
    endpoints: list[dict[str, Any]] = [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}]
    if known:
        # Each says who it is: what one was told, and did not take, the next is not told.
        endpoints = [{"priority": n, "lb_endpoints": [_endpoint(*one)]} for n, one in enumerate(known)]
        filters = _upstream_filters([("x-headrace-arm", _of_the_server("arm"))])
    if filters:
        options["http_filters"] = filters
    return {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": CONNECT_TIMEOUT,
        "typed_extension_protocol_options": {_HTTP_OPTIONS.partition("/")[2]: options},
        "circuit_breakers": {"thresholds": [{"max_retries": WAITING}]},
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    }


def _endpoint(arm: Arm, port: int) -> dict[str, Any]:
    told = {"filter_metadata": {_METADATA: {"revision": arm.revision_id, "arm": arm.name}}}
    return {"endpoint": {"address": _address(port)}, "metadata": told}


def _shadow_filters(grpc: bool) -> list[dict[str, Any]]:
    """What a mirrored request carries beside the original: the payload log tells the two answers apart by id."""
    changed = [("x-request-id", f"%REQ(X-REQUEST-ID)%{SHADOW}"), ("x-headrace-arm", "shadow")]
    return [*([_code_as_status()] if grpc else []), *_upstream_filters(changed)]


def _upstream_filters(headers: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """What a cluster does with a request once it knows who gets it: set these headers, and send it."""
    mutations = [{"append": _header(name, value)} for name, value in headers]
    return [
        {
            "name": "envoy.filters.http.header_mutation",
            "typed_config": {
                "@type": f"{_HTTP_FILTERS}.header_mutation.v3.HeaderMutation",
                "mutations": {"request_mutations": mutations},
            },
        },
        {
            "name": "envoy.filters.http.upstream_codec",
            "typed_config": {"@type": f"{_HTTP_FILTERS}.upstream_codec.v3.UpstreamCodec"},
        },
    ]


def _code_as_status() -> dict[str, Any]:
    """Gives a failed gRPC answer the status 500, which is counted: no filter counts codes of mirrored requests."""
    failed = ", ".join(f'["{code}"] = true' for code in GRPC_ERRORS)
    script = f"""
        local failed = {{{failed}}}
        function envoy_on_response(answer)
          local trailers = answer:trailers()
          local code = answer:headers():get("grpc-status") or (trailers and trailers:get("grpc-status"))
          if failed[code] then answer:headers():replace(":status", "500") end
        end
    """
    config = {"@type": f"{_HTTP_FILTERS}.lua.v3.Lua", "default_source_code": {"inline_string": script}}
    return {"name": "envoy.filters.http.lua", "typed_config": config}


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
            # HTTP/1.1, or HTTP/2 without TLS, as gRPC speaks it: told from the first bytes.
            "codec_type": "AUTO",
            "access_log": [_users_log(folder)],
            "http_filters": [
                {"name": _TO_METADATA, "typed_config": {"@type": _TO_METADATA_CONFIG}},
                _grpc_stats(),
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": f"{_HTTP_FILTERS}.router.v3.Router"},
                },
            ],
        },
    }


def _grpc_stats() -> dict[str, Any]:
    """Counts the codes of gRPC answers by cluster."""
    config = {"@type": f"{_HTTP_FILTERS}.grpc_stats.v3.FilterConfig", "stats_for_all_methods": False}
    return {"name": "envoy.filters.http.grpc_stats", "typed_config": config}


def _file(folder: Path, name: str) -> dict[str, Any]:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(folder / name)}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _header(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
