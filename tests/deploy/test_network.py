"""Who may talk to whom: the NetworkPolicies by Kubernetes' rules, over every port that the manifests use."""

from __future__ import annotations

import ipaddress
from typing import Any, NamedTuple

import pytest

from tests.deploy.manifests import cluster_spec, documents, groups, pods, ray_object

OURS = "inverdict"
NAMESPACES: dict[str, dict[str, str]] = {
    **{name: {} for name in (OURS, "kuberay", "monitoring", "kube-system", "redis", "elsewhere")},
    "app": {"inverdict/client": "true"},
}
WORKER_PORTS = (8076, 10002, 19999, 45123)  # object manager and workers; without settings Ray takes free ports


class End(NamedTuple):
    """A pod of a namespace with its labels, or an address outside of all."""

    namespace: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    address: str = ""


def ours(labels: dict[str, str], node_type: str = "") -> End:
    added = {"ray.io/node-type": node_type} if node_type else {}  # by KubeRay
    return End(OURS, tuple({**labels, **added}.items()))


HEAD, WORKER = (
    ours(group["template"]["metadata"]["labels"], "worker" if "groupName" in group else "head")
    for group in groups(cluster_spec(ray_object("rayservice.yaml")))[:2]
)
SUBMITTER = ours(pods(ray_object("rayjob.yaml"))[-1]["metadata"]["labels"])
FETCH = ours(documents("fetch.yaml")[0]["spec"]["template"]["metadata"]["labels"])
OPERATOR, PROMETHEUS, CLIENT, STRANGER = (End(name) for name in ("kuberay", "monitoring", "app", "elsewhere"))
DNS, REDIS = End("kube-system"), End("redis")
HUB, METADATA, NODE_DNS = (End(address=one) for one in ("203.0.113.7", "169.254.169.254", "169.254.20.10"))
OUTSIDERS = {"operator": OPERATOR, "prometheus": PROMETHEUS, "client": CLIENT, "stranger": STRANGER}


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels"}, "this test knows no matchExpressions"
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def is_peer(peer: dict[str, Any], end: End, own: str) -> bool:
    assert peer.keys() <= {"podSelector", "namespaceSelector", "ipBlock"}
    if "ipBlock" in peer:
        network = ipaddress.ip_network(peer["ipBlock"]["cidr"])
        return bool(end.address) and ipaddress.ip_address(end.address) in network
    if end.address:
        return False
    if "namespaceSelector" in peer:
        named = {"kubernetes.io/metadata.name": end.namespace, **NAMESPACES[end.namespace]}
        if not matches(peer["namespaceSelector"], named):
            return False
    elif end.namespace != own:
        return False
    return matches(peer.get("podSelector", {}), dict(end.labels))


def lets_through(rules: list[dict[str, Any]], side: str, end: End, port: int, protocol: str) -> bool:
    for rule in rules:
        peers, ports = rule.get(side), rule.get("ports")
        if peers is not None and not any(is_peer(peer, end, OURS) for peer in peers):
            continue
        if ports is None or any((one["port"], one["protocol"]) == (port, protocol) for one in ports):
            return True
    return False


def allowed(source: End, target: End, port: int, protocol: str = "TCP", *files: str) -> bool:
    """By Kubernetes' rules: a pod that a policy chooses may do only what one of its policies allows, on both sides."""
    found = [one for name in ("network.yaml", *files) for one in documents(name)]
    policies = [one["spec"] for one in found if one["kind"] == "NetworkPolicy"]

    def side_allows(end: End, kind: str, side: str, other: End) -> bool:
        if end.namespace != OURS:
            return True
        mine = [one for one in policies if kind in one["policyTypes"] and matches(one["podSelector"], dict(end.labels))]
        assert mine
        return any(lets_through(one.get(kind.lower(), []), side, other, port, protocol) for one in mine)

    return side_allows(source, "Egress", "to", target) and side_allows(target, "Ingress", "from", source)


def ports_of(kind: str) -> set[int]:
    """Every port that a container of the head or of a worker names, in any of the three manifests."""
    found: set[int] = set()
    for name in ("raycluster.yaml", "rayjob.yaml", "rayservice.yaml"):
        for group in groups(cluster_spec(ray_object(name))):
            if ("groupName" in group) == (kind == "worker"):
                found |= {one["containerPort"] for one in group["template"]["spec"]["containers"][0]["ports"]}
    return found


# Port -> who may reach it from outside of the namespace. The job server (8265) runs whatever it is sent.
HEAD_PORTS: dict[int, set[str]] = {
    6379: set(),
    8265: {"operator"},
    10001: set(),
    8080: {"prometheus"},
    44217: {"prometheus"},
    44227: {"prometheus"},
    8000: {"operator", "client"},
}
WORKERS_PORTS: dict[int, set[str]] = {8080: {"prometheus"}, 8000: {"operator", "client"}}


def test_every_port_of_the_manifests_is_walked() -> None:
    assert ports_of("head") == HEAD_PORTS.keys()
    assert ports_of("worker") == WORKERS_PORTS.keys()


@pytest.mark.parametrize(("target", "ports"), [(HEAD, HEAD_PORTS), (WORKER, WORKERS_PORTS)], ids=["head", "worker"])
def test_nothing_reaches_a_pod_but_what_is_named(target: End, ports: dict[int, set[str]]) -> None:
    for port in (*ports, *WORKER_PORTS):
        found = {name for name, source in OUTSIDERS.items() if allowed(source, target, port)}
        assert found == ports.get(port, set()), port


@pytest.mark.parametrize(("source", "target"), [(HEAD, WORKER), (WORKER, HEAD), (WORKER, WORKER), (SUBMITTER, HEAD)])
def test_ray_s_nodes_and_the_submitter_reach_each_other_on_every_port(source: End, target: End) -> None:
    for port in (*HEAD_PORTS, *WORKER_PORTS):
        assert allowed(source, target, port), port


@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
@pytest.mark.parametrize("source", [HEAD, WORKER, SUBMITTER, FETCH], ids=["head", "worker", "submitter", "fetch"])
def test_every_pod_resolves_names(source: End, protocol: str) -> None:
    """In the DNS pods, in NodeLocal DNSCache, and in Cloud DNS for GKE, which are addresses of the node."""
    for target in (DNS, NODE_DNS, METADATA):
        assert allowed(source, target, 53, protocol)


def test_only_the_named_pods_leave_the_namespace() -> None:
    for source, may in ((HEAD, True), (FETCH, True), (WORKER, False), (SUBMITTER, False)):
        assert allowed(source, HUB, 443) is may
        assert allowed(source, HUB, 6443) is may  # Kubernetes' API
        assert not allowed(source, HUB, 80)
        # The node's credentials are at the address of its DNS, on another port.
        assert not allowed(source, METADATA, 80)
        for other in (STRANGER, OPERATOR, PROMETHEUS, CLIENT):
            assert not allowed(source, other, 8000)


def test_redis_is_for_the_heads_and_only_where_it_is_used() -> None:
    assert allowed(HEAD, REDIS, 6379, "TCP", "optional/redis.yaml")
    assert not allowed(WORKER, REDIS, 6379, "TCP", "optional/redis.yaml")
    assert not allowed(HEAD, REDIS, 6379)


def test_everything_is_closed_by_default() -> None:
    closed = next(one for one in documents("network.yaml") if one["metadata"]["name"] == "inverdict-closed")
    assert closed["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for one in (*documents("network.yaml"), *documents("optional/redis.yaml")):
        for rule in one.get("spec", {}).get("ingress", []):
            assert rule["from"], "a rule without `from` lets everybody in"
