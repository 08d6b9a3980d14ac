"""What may reach the pods of a plan, and what may they reach?

Everything is closed; what is open is listed, each with its reason. Tokens guard what is open: the
policy is the second lock, not the only one.
"""

from __future__ import annotations

from typing import Any

from orchestrator.plan.plan import Plan
from orchestrator.render import names as at
from orchestrator.render.cluster import renders_redis
from orchestrator.render.pods import Setting
from orchestrator.render.profile import NetworkPeer
from orchestrator.render.storage import reads_bucket
from orchestrator.render.yaml_text import Node, Note

CLIENT_LABEL = "axis.client-of"
_INSTANCE = "app.kubernetes.io/instance"
_NAMESPACE = "kubernetes.io/metadata.name"
_AUTOSCALER_PORTS = (44217, 44227)
_API_PORTS = (443, 6443)


def policies(setting: Setting) -> list[dict[str, Node]]:
    """The NetworkPolicies of all pods of the plan."""
    found = [_policy(setting, "ray", _selector(setting), _ingress(setting), _egress(setting))]
    if setting.autoscaled:
        rule = _to([_block(setting.profile.api_server)], _API_PORTS)
        why = (
            "The autoscaler, beside the head, asks the Kubernetes API for pods. Narrow it to that "
            "address (api_server in a profile)."
        )
        head = {"matchLabels": setting.names.labels("head")}
        found.append(_policy(setting, "autoscaler", head, None, [Note(rule, why)]))
    return found


def disruption_budgets(setting: Setting) -> list[dict[str, Node]]:
    """For a service: nodes are drained one after another, and never the last replica's."""
    found: list[dict[str, Node]] = []
    for group in setting.sized.groups:
        if setting.kind != "service":
            continue
        least = max(1, group.min_pods - 1)
        why = (
            f"Of {group.min_pods} pods at least; a drain waits for the others."
            if group.min_pods > 1
            else "There is one pod: draining its node waits until it is deleted by hand. Two "
            "replicas (inference.replicas) would let it go."
        )
        spec = {
            # KubeRay's pods have no scale that Kubernetes knows, so only a number will do.
            "minAvailable": Note(least, why),
            "selector": {"matchLabels": setting.names.labels(group.name)},
        }
        found.append(
            {
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": _metadata(setting, group.name),
                "spec": spec,
            }
        )
    return found


def _ingress(setting: Setting) -> list[Node]:
    profile = setting.profile
    operator = [at.DASHBOARD_PORT] + ([] if setting.kind == "job" else [at.SERVE_PORT])
    found: list[Node] = [
        Note(
            {"from": [_pods(setting)]},
            "Ray's processes talk on ports of their choice; only with one another.",
        ),
        Note(
            {
                "from": [
                    {
                        "namespaceSelector": _named(profile.operator_namespace),
                        "podSelector": {
                            "matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}
                        },
                    }
                ],
                "ports": _ports(operator),
            },
            "The KubeRay operator asks how jobs and applications are.",
        ),
        Note(
            {
                "from": [{"namespaceSelector": _named(profile.monitoring_namespace)}],
                "ports": _ports((at.METRICS_PORT, *_AUTOSCALER_PORTS)),
            },
            "Prometheus reads metrics.",
        ),
    ]
    if setting.kind != "job":
        label = {"matchLabels": {CLIENT_LABEL: setting.names.run}}
        peers: list[Node] = [{"podSelector": label}]
        peers += [{"namespaceSelector": _named(name)} for name in profile.client_namespaces]
        why = f"Clients of the model: pods here with the label {CLIENT_LABEL}: {setting.names.run}"
        if profile.client_namespaces:
            why += f", and all in {', '.join(profile.client_namespaces)}"
        found.append(Note({"from": peers, "ports": _ports([at.SERVE_PORT])}, f"{why}."))
    return found


def _egress(setting: Setting) -> list[Node]:
    profile = setting.profile
    dns = {
        "to": [{"namespaceSelector": _named("kube-system")}, _block("169.254.20.10/32")],
        "ports": _ports([53], "UDP") + _ports([53]),
    }
    found: list[Node] = [
        Note({"to": [_pods(setting)]}, "One another."),
        Note(dns, "Names: the cluster's DNS, or its cache on the node."),
    ]
    if reads_bucket(setting.plan):
        peer = {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}
        found.append(Note(_to([peer], [443]), _bucket_reason(setting.plan)))
    redis = profile.redis_address
    if redis and not renders_redis(setting):
        port = int(redis.rpartition(":")[2]) if redis.rpartition(":")[2].isdecimal() else 6379
        anywhere = [_block("0.0.0.0/0")]
        found.append(Note(_to(anywhere, [port]), f"The head's state is kept in {redis}."))
    return found + [_extra(peer) for peer in profile.egress]


def _bucket_reason(plan: Plan) -> str:
    return f"HTTPS, for a bucket: {plan.storage if '://' in plan.storage else 'the corpus'}."


def _extra(peer: NetworkPeer) -> Node:
    rule = _to([_block(peer.cidr)], peer.ports)
    return Note(rule, f"{peer.why[:1].upper()}{peer.why[1:]}.") if peer.why else rule


def _policy(
    setting: Setting,
    name: str,
    selector: dict[str, Any],
    ingress: list[Node] | None,
    egress: list[Node],
) -> dict[str, Node]:
    types = (["Ingress"] if ingress is not None else []) + ["Egress"]
    spec: dict[str, Node] = {"podSelector": selector, "policyTypes": types}
    if ingress is not None:
        spec["ingress"] = ingress
    spec["egress"] = egress
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(setting, name),
        "spec": spec,
    }


def _metadata(setting: Setting, suffix: str) -> dict[str, Any]:
    return {"name": f"{setting.names.instance}-{suffix}", "labels": setting.names.labels()}


def _selector(setting: Setting) -> dict[str, Any]:
    return {"matchLabels": {_INSTANCE: setting.names.instance}}


def _pods(setting: Setting) -> dict[str, Any]:
    return {"podSelector": _selector(setting)}


def _named(namespace: str) -> dict[str, Any]:
    return {"matchLabels": {_NAMESPACE: namespace}}


def _block(cidr: str) -> dict[str, Any]:
    return {"ipBlock": {"cidr": cidr}}


def _to(peers: list[dict[str, Any]], ports: Any) -> dict[str, Any]:
    return {"to": peers, "ports": _ports(ports)}


def _ports(ports: Any, protocol: str = "TCP") -> list[dict[str, Any]]:
    return [{"protocol": protocol, "port": port} for port in ports]
