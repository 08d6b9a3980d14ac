"""What is rendered for KubeRay: accepted by every schema and rule, and true to the plan."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings

from orchestrator.errors import PlanError
from orchestrator.plan.plan import Plan
from orchestrator.render.kinds import CLUSTER_FIELDS
from orchestrator.render.kuberay_rules import rule_problems
from orchestrator.render.kubernetes import Rendered, render
from orchestrator.render.nodes import PREEMPTIBLE
from orchestrator.render.pods import GRACE_MARGIN_SECONDS
from orchestrator.render.profile import BUILT_IN, Profile, load_profile
from orchestrator.render.sizing import Kind
from tests.render.kubernetes_schemas import (
    cel_problems,
    core_problems,
    crd_problems,
    needs_schemas,
    objects_in,
)
from tests.render.plans import SHAPES, plan_of, plans

pytestmark = pytest.mark.unit

KINDS: tuple[Kind, ...] = ("job", "service", "cluster")
QUEUES = {
    "kueue": "queue: team-a\npriority_class: high\n",
    "volcano": "queue: team-a\nqueue_kind: volcano\npriority_class: high\n",
    "rocksdb": "gcs: rocksdb\ntls: true\n",
    "own-redis": "redis_address: redis.databases:6380\nredis_secret: {name: r, key: k}\n",
}
GIVEN: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in BUILT_IN},
    "none": (),
    "gke-spot": ("gke", "spot"),
}
PROFILES = (*GIVEN, *QUEUES)


def profile_of(name: str) -> Profile:
    if name in QUEUES:
        return load_profile([name], {name: QUEUES[name]})
    return load_profile(GIVEN[name], {})


def rendered(shape: str, kind: Kind = "job", profile: str = "none", *overrides: str) -> Rendered:
    return render(plan_of(shape, *overrides), profile_of(profile), kind)


def by_kind(result: Rendered) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for values in objects_in(result.stream()):
        found.setdefault(values["kind"], []).append(values)
    return found


def main_of(result: Rendered) -> dict[str, Any]:
    (values,) = [v for v in objects_in(result.stream()) if v["kind"] in CLUSTER_FIELDS]
    return values


def cluster_of(result: Rendered) -> dict[str, Any]:
    values = main_of(result)
    field = CLUSTER_FIELDS[values["kind"]]
    return values["spec"][field] if field else values["spec"]


def pods_of(result: Rendered) -> list[dict[str, Any]]:
    """The specs of all pods: of Ray, of the submitter, of Redis."""
    cluster, main = cluster_of(result), main_of(result)
    found = [cluster["headGroupSpec"]["template"]["spec"]]
    found += [group["template"]["spec"] for group in cluster["workerGroupSpecs"]]
    if main["kind"] == "RayJob":
        found.append(main["spec"]["submitterPodTemplate"]["spec"])
    for deployment in by_kind(result).get("Deployment", []):
        found.append(deployment["spec"]["template"]["spec"])
    return found


CASES: dict[str, tuple[str, Kind, str]] = {
    **{f"{kind}-{profile}": ("serving", kind, profile) for kind in KINDS for profile in PROFILES},
    **{f"job-{shape}": (shape, "job", "none") for shape in SHAPES},
    "service-gpu-replicas": ("gpu-replicas", "service", "gke"),
}


@pytest.mark.parametrize("case", CASES)
def test_kubernetes_and_kuberays_rules_accept_it(case: str) -> None:
    for values in objects_in(rendered(*CASES[case]).stream()):
        assert core_problems(values) == []
        assert rule_problems(values) == []


@needs_schemas
def test_the_crds_accept_it(tmp_path: Path) -> None:
    for case, chosen in CASES.items():
        (tmp_path / f"{case}.yaml").write_text(rendered(*chosen).stream())
    assert crd_problems(sorted(tmp_path.iterdir())) == ""


@needs_schemas
@pytest.mark.parametrize("case", CASES)
def test_the_crds_cel_rules_hold(case: str) -> None:
    for values in objects_in(rendered(*CASES[case]).stream()):
        assert cel_problems(values) == []


@needs_schemas
def test_the_checks_refuse_what_is_wrong(tmp_path: Path) -> None:
    values = main_of(rendered("serving"))
    values["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replicaz"] = 1
    values["spec"]["managedBy"] = "somebody"
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(values))
    assert "replicaz" in crd_problems([tmp_path / "wrong.yaml"])
    assert any("ray.io/kuberay-operator" in problem for problem in cel_problems(values))
    claim = by_kind(rendered("serving"))["PersistentVolumeClaim"][0]
    assert core_problems({**claim, "spec": {**claim["spec"], "acessModes": []}}) != []


@given(plans())
@settings(max_examples=20, deadline=None)
def test_any_plan_is_rendered_the_same_again(plan: Plan) -> None:
    result = render(plan, Profile(), "job")
    again = render(plan, Profile(), "job")
    assert result.texts() == again.texts()
    for values in objects_in(result.stream()):
        assert core_problems(values) == []
        assert rule_problems(values) == []


@pytest.mark.parametrize("kind", KINDS)
def test_files_and_stream_hold_the_same(kind: Kind) -> None:
    result = rendered("serving", kind)
    texts = result.texts()
    listed = objects_in(texts.pop("kustomization.yaml"))[0]["resources"]
    assert sorted(listed) == sorted(texts)
    assert [v for name in listed for v in objects_in(texts[name])] == objects_in(result.stream())


def test_the_main_file_says_why() -> None:
    text = rendered("elastic").texts()["rayjob.yaml"]
    comments = [line for line in text.splitlines() if line.strip().startswith("#")]
    assert len(comments) > 20
    assert max(map(len, comments)) <= 100


# ------------------------------------------------------------------ the head and the workers


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_is_outside_the_gang_and_on_no_preemptible_node(kind: Kind) -> None:
    head = cluster_of(rendered("serving", kind, "gke-spot"))["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    spec = head["template"]["spec"]
    assert "tolerations" not in spec
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    refused = {e["key"] for e in term["matchExpressions"] if e["operator"] == "NotIn"}
    assert refused == set(PREEMPTIBLE)
    assert set(profile_of("spot").spot) <= refused


def test_workers_go_to_preemptible_nodes_only_where_the_profile_says_so() -> None:
    spot = cluster_of(rendered("elastic", "job", "gke-spot"))["workerGroupSpecs"][0]
    spec = spot["template"]["spec"]
    assert {taint["key"] for taint in spec["tolerations"]} == {
        "cloud.google.com/gke-spot",
        "karpenter.sh/capacity-type",
    }
    assert "preferredDuringSchedulingIgnoredDuringExecution" in spec["affinity"]["nodeAffinity"]
    plain = cluster_of(rendered("elastic"))["workerGroupSpecs"][0]["template"]["spec"]
    assert "tolerations" not in plain
    assert "affinity" not in plain


def test_the_elastic_range_is_the_autoscalers() -> None:
    cluster = cluster_of(rendered("elastic"))  # workers: [2, 4], half a CPU each
    (group,) = cluster["workerGroupSpecs"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert (group["minReplicas"], group["replicas"], group["maxReplicas"]) == (1, 1, 2)
    fixed = cluster_of(rendered("batch"))
    assert "enableInTreeAutoscaling" not in fixed
    assert (
        fixed["workerGroupSpecs"][0]["minReplicas"] == fixed["workerGroupSpecs"][0]["maxReplicas"]
    )


def test_worker_groups_have_what_the_axes_need() -> None:
    cluster = cluster_of(rendered("gpu-replicas"))
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    assert groups["training-gpu"]["resources"] == {"CPU": "8", "GPU": "1"}
    assert groups["training-cpu"]["resources"] == {"CPU": "1"}
    (container,) = groups["training-gpu"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["resources"]["requests"]["cpu"] == "8"
    (cpus,) = groups["training-cpu"]["template"]["spec"]["containers"]
    assert "nvidia.com/gpu" not in cpus["resources"]["limits"]


def test_custom_resources_are_offered() -> None:
    (group,) = cluster_of(rendered("custom"))["workerGroupSpecs"]
    assert group["resources"] == {"CPU": "2", "licence": "1"}


def test_devices_are_asked_of_kubernetes() -> None:
    result = rendered("batch", "job", "none", "training.resources={cpu: 8, custom: {TPU: 4}}")
    (group,) = cluster_of(result)["workerGroupSpecs"]
    assert group["resources"] == {"CPU": "8", "TPU": "4"}
    (container,) = group["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["google.com/tpu"] == 4


def test_nothing_is_left_to_the_memory_of_the_head() -> None:
    with pytest.raises(PlanError, match="could not be kept off the head"):
        rendered("batch", "job", "none", "data.resources={cpu: 0, memory: 1GiB}")


def test_a_folder_that_an_entrypoint_would_take_apart_is_refused() -> None:
    with pytest.raises(PlanError, match="loses the quotes") as refused:
        rendered("serving", "job", "none", "storage='/mnt/my runs'")
    assert refused.value.problems[0].where == "storage"
    named = rendered("serving", "service", "none", "storage='/mnt/my runs'").stream()
    assert "/my runs" in named, "only a RayJob has an entrypoint"


def test_labels_of_the_plan_reach_ray_and_kubernetes() -> None:
    cluster = cluster_of(rendered("labels", "job", "gke"))
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    training = groups["training"]
    assert training["labels"] == {"accelerator": "H100"}
    assert expressions(training) == [
        {
            "key": "cloud.google.com/gke-accelerator",
            "operator": "In",
            "values": ["nvidia-h100-80gb"],
        }
    ]
    assert "labels" not in groups["data"]
    assert expressions(groups["data"])[0]["operator"] == "NotIn"
    assert "labels" not in groups["inference"]  # Ray finds out itself
    assert expressions(groups["inference"])[0]["values"] == ["nvidia-l4"]
    near = training["template"]["spec"]["affinity"]["podAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    assert [(term["weight"], term["podAffinityTerm"]["topologyKey"]) for term in near] == [
        (100, "nvlink-domain"),
        (50, "topology.kubernetes.io/zone"),
    ]


def expressions(group: dict[str, Any]) -> list[dict[str, Any]]:
    rule = group["template"]["spec"]["affinity"]["nodeAffinity"]
    terms = rule["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    found: list[dict[str, Any]] = terms[0]["matchExpressions"]
    return found


# ------------------------------------------------------------------ ending, storage, gangs


@pytest.mark.parametrize("timeout", ["5s", "90s", "1h"])
def test_no_pod_is_killed_before_its_checkpoint(timeout: str) -> None:
    result = rendered("batch", "job", "none", f"coordination.stop_timeout={timeout}")
    seconds = result.setting.plan.coordination.stop_timeout
    cluster = cluster_of(result)
    for spec in pods_of(result)[:2]:
        assert spec["terminationGracePeriodSeconds"] >= seconds + GRACE_MARGIN_SECONDS
    head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert (
        "axis stop digits --storage /mnt/axis/runs"
        in head["lifecycle"]["preStop"]["exec"]["command"][2]
    )
    worker = cluster["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
    env = {each["name"]: each.get("value") for each in worker["env"]}
    assert float(env["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"]) >= seconds


def test_a_folder_becomes_a_volume_that_every_pod_of_ray_mounts() -> None:
    result = rendered("batch")
    (claim,) = by_kind(result)["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for spec in pods_of(result)[:2]:
        claims = [v.get("persistentVolumeClaim", {}).get("claimName") for v in spec["volumes"]]
        assert claim["metadata"]["name"] in claims
    assert "storage=/mnt/axis/runs" in main_of(result)["spec"]["entrypoint"]


def test_a_bucket_needs_no_volume_but_https() -> None:
    result = rendered("bucket")
    assert "PersistentVolumeClaim" not in by_kind(result)
    assert "storage=" not in main_of(result)["spec"]["entrypoint"]
    (policy,) = by_kind(result)["NetworkPolicy"]
    assert 443 in ports(policy["spec"]["egress"])
    (account,) = by_kind(rendered("bucket", "job", "gke"))["ServiceAccount"]
    assert "iam.gke.io/gcp-service-account" in account["metadata"]["annotations"]


def test_an_existing_claim_is_mounted_and_not_made() -> None:
    profile = load_profile(["p"], {"p": "volume: {claim: team-runs}"})
    result = render(plan_of("batch"), profile, "job")
    assert "PersistentVolumeClaim" not in by_kind(result)
    assert "claimName: team-runs" in result.stream()


def test_queues_admit_the_gang_whole() -> None:
    kueue = main_of(rendered("elastic", "job", "kueue"))
    assert kueue["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert kueue["spec"]["shutdownAfterJobFinishes"] is True
    cluster = kueue["spec"]["rayClusterSpec"]
    assert "enableInTreeAutoscaling" not in cluster  # Kueue's webhook refuses it
    assert cluster["workerGroupSpecs"][0]["minReplicas"] == 2
    volcano = main_of(rendered("elastic", "job", "volcano"))
    assert volcano["metadata"]["labels"]["volcano.sh/queue-name"] == "team-a"
    assert volcano["metadata"]["labels"]["ray.io/priority-class-name"] == "high"
    assert volcano["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] is True


@pytest.mark.parametrize("kind", ["service", "cluster"])
def test_what_outlives_a_job_survives_its_head(kind: Kind) -> None:
    result = rendered("serving", kind)
    options = cluster_of(result)["gcsFaultToleranceOptions"]
    (service,) = [
        s
        for s in by_kind(result)["Service"]
        if options["redisAddress"].startswith(s["metadata"]["name"])
    ]
    (deployment,) = by_kind(result)["Deployment"]
    pods = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= pods.items()
    secret = options["redisPassword"]["valueFrom"]["secretKeyRef"]
    (env,) = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    assert env["valueFrom"]["secretKeyRef"] == secret
    assert any(f"the Secret {secret['name']} must hold password" in w for w in result.warnings)
    assert "gcsFaultToleranceOptions" not in cluster_of(rendered("serving", "job"))


# ------------------------------------------------------------------ security


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("profile", ["none", "kind"])
def test_pods_are_not_root_and_write_nowhere_but_to_their_volumes(kind: Kind, profile: str) -> None:
    for spec in pods_of(rendered("serving", kind, profile)):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@pytest.mark.parametrize("kind", KINDS)
def test_ray_finds_the_paths_that_it_writes_to(kind: Kind) -> None:
    cluster = cluster_of(rendered("elastic" if kind != "service" else "gpu-replicas", kind))
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        spec = group["template"]["spec"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        mounts = {m["mountPath"]: volumes[m["name"]] for m in spec["containers"][0]["volumeMounts"]}
        assert "emptyDir" in mounts["/tmp"]
        assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"
        home = next(e["value"] for e in spec["containers"][0]["env"] if e["name"] == "HOME")
        assert "emptyDir" in mounts[home]
        store = int(group["rayStartParams"]["object-store-memory"])
        assert store < in_bytes(mounts["/dev/shm"]["emptyDir"]["sizeLimit"])
    assert "/tmp" in [m["mountPath"] for m in cluster["autoscalerOptions"]["volumeMounts"]]


def in_bytes(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Ki|Mi|Gi|Ti)?", text).groups()  # type: ignore[union-attr]
    return int(number) * {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, None: 1}[unit]


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_on(kind: Kind) -> None:
    assert cluster_of(rendered("serving", kind))["authOptions"] == {"mode": "token"}


def test_secrets_are_named_and_never_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_TOKEN", "canary-5e1f")
    plan = plan_of("batch", "options={channels: 16, hub: '${env:HUB_TOKEN}'}")
    text = "env_secrets: {AWS_SECRET_ACCESS_KEY: {name: bucket, key: secret}}"
    result = render(plan, load_profile(["p"], {"p": text}), "job")
    assert "canary-5e1f" not in result.stream()
    assert "Secret" not in by_kind(result)
    for spec in pods_of(result)[:2]:
        env = {each["name"]: each for each in spec["containers"][0]["env"]}
        assert env["HUB_TOKEN"]["valueFrom"] == {
            "secretKeyRef": {"name": "digits-secrets", "key": "HUB_TOKEN"}
        }
        assert env["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]["name"] == "bucket"
    assert any("digits-secrets must hold HUB_TOKEN" in text for text in result.warnings)


@pytest.mark.parametrize(
    "storage", ["s3://key:canary@bucket/runs", "s3://bucket/runs?secret_key=canary"]
)
def test_a_secret_that_is_written_out_is_refused(storage: str) -> None:
    with pytest.raises(PlanError, match="a secret is written out") as refused:
        rendered("batch", "job", "none", f"storage={storage}")
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_is_closed_but_for_what_is_listed(kind: Kind) -> None:
    result = rendered("serving", kind)
    (policy,) = by_kind(result)["NetworkPolicy"]
    spec = policy["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    selector = spec["podSelector"]["matchLabels"]
    for labels in pod_labels(result):
        assert selector.items() <= labels.items(), "a pod that no policy closes"
    opened = {(peers(rule), tuple(ports([rule]))) for rule in spec["ingress"]}
    expected = {
        (f"pods {selector['app.kubernetes.io/instance']}", ()),
        ("monitoring", (8080, 44217, 44227)),
    }
    if kind == "job":
        expected.add(("kuberay-system pods kuberay-operator", (8265,)))
    else:
        expected.add(("kuberay-system pods kuberay-operator", (8265, 8000)))
        expected.add(("pods digits", (8000,)))
    assert opened == expected
    assert all(rule.get("from") for rule in spec["ingress"]), "a rule without peers opens to all"
    assert all(rule.get("to") for rule in spec["egress"])
    assert ports(spec["egress"]) == [53]


def test_only_the_head_reaches_the_kubernetes_api_and_only_if_it_must() -> None:
    result = rendered("elastic")
    policies = {p["metadata"]["name"]: p["spec"] for p in by_kind(result)["NetworkPolicy"]}
    opened = policies["gpt-mesh-autoscaler"]
    assert opened["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "head"
    assert ports(opened["egress"]) == [443, 6443]
    head, *workers = pods_of(result)
    assert head["automountServiceAccountToken"] is True
    assert {spec["automountServiceAccountToken"] for spec in workers} == {False}
    fixed = rendered("batch")
    assert {spec["automountServiceAccountToken"] for spec in pods_of(fixed)} == {False}
    assert len(by_kind(fixed)["NetworkPolicy"]) == 1


def pod_labels(result: Rendered) -> list[dict[str, str]]:
    cluster, main = cluster_of(result), main_of(result)
    templates = [cluster["headGroupSpec"]["template"]]
    templates += [group["template"] for group in cluster["workerGroupSpecs"]]
    if main["kind"] == "RayJob":
        templates.append(main["spec"]["submitterPodTemplate"])
    templates += [d["spec"]["template"] for d in by_kind(result).get("Deployment", [])]
    return [template["metadata"]["labels"] for template in templates]


def peers(rule: dict[str, Any]) -> str:
    (peer,) = rule["from"]
    words = list(peer.get("namespaceSelector", {}).get("matchLabels", {}).values())
    if "podSelector" in peer:
        words += ["pods", *peer["podSelector"]["matchLabels"].values()]
    return " ".join(words)


def ports(rules: list[dict[str, Any]]) -> list[int]:
    found = [port["port"] for rule in rules for port in rule.get("ports", [])]
    return list(dict.fromkeys(found))


# ------------------------------------------------------------------ serving


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_served_asks_for_a_token_by_reference(kind: Kind) -> None:
    result = rendered("serving", kind)
    (plan,) = by_kind(result)["ConfigMap"]
    shown = yaml.safe_load(plan["data"]["plan.yaml"])
    assert shown["inference"]["token"] == "${env:AXIS_SERVE_TOKEN}"
    for spec in pods_of(result)[:2]:
        env = {each["name"]: each for each in spec["containers"][0]["env"]}
        secret = env["AXIS_SERVE_TOKEN"]["valueFrom"]["secretKeyRef"]
        assert secret == {"name": "digits-secrets", "key": "AXIS_SERVE_TOKEN"}
    own = rendered("serving", kind, "none", "inference.token=${env:OURS}")
    assert "AXIS_SERVE_TOKEN" not in own.stream()
    assert "AXIS_SERVE_TOKEN" not in rendered("batch").stream()


def test_a_budget_keeps_replicas_while_nodes_are_drained() -> None:
    result = rendered("gpu-replicas", "service")
    (budget,) = by_kind(result)["PodDisruptionBudget"]
    assert budget["spec"]["minAvailable"] == 1  # of two
    selector = budget["spec"]["selector"]["matchLabels"]
    group = cluster_of(result)["workerGroupSpecs"][0]
    assert selector.items() <= group["template"]["metadata"]["labels"].items()
    assert "PodDisruptionBudget" not in by_kind(rendered("serving", "job"))


def test_a_service_without_replicas_is_refused() -> None:
    with pytest.raises(PlanError, match="a service serves nothing else"):
        rendered("elastic", "service")


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("kind", "limit"), [("job", 47), ("service", 47), ("cluster", 53)], ids=lambda value: str(value)
)
def test_a_name_that_is_too_long_is_refused(kind: Kind, limit: int) -> None:
    plan = plan_of("serving")
    long = plan.model_copy(update={"name": "a" * (limit + 1)})
    with pytest.raises(PlanError, match=f"KubeRay takes at most {limit}"):
        render(long, Profile(), kind)
    fits = plan.model_copy(update={"name": "a" * 47})  # what a plan may be called
    for values in objects_in(render(fits, Profile(), kind).stream()):
        # Names of most objects may have 253 characters; those of services, and labels, 63.
        assert values["kind"] != "Service" or len(values["metadata"]["name"]) <= 63
        assert all(len(label) <= 63 for label in values["metadata"]["labels"].values())


@pytest.mark.parametrize("name", ["Digits", "9lives", "a_b", "a-"])
def test_a_name_that_is_none_in_kubernetes_is_refused(name: str) -> None:
    plan = plan_of("serving").model_copy(update={"name": name})
    with pytest.raises(PlanError, match="DNS-1035"):
        render(plan, Profile(), "job")


def test_a_plan_that_no_node_holds_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(PlanError) as refused:
        rendered("gpus", "job", "kind")
    problems = {problem.where: problem for problem in refused.value.problems}
    assert problems["training.resources.gpu"].arithmetic == "needs 1 GPU; a node has no GPUs"
    assert problems["training.resources.cpu"].arithmetic == "needs 8 CPU; a node has 4"
    assert all(problem.works for problem in problems.values())
    assert refused.value.exit_code == 2


def test_a_label_that_kubernetes_does_not_take_is_refused() -> None:
    with pytest.raises(PlanError, match="is no label in Kubernetes"):
        rendered("batch", "job", "none", "training.resources.label_selector={gpu: 'H200 SXM'}")


def test_profiles_are_checked() -> None:
    with pytest.raises(PlanError, match="there is no profile gek") as unknown:
        load_profile(["gek"], {})
    assert "gke" in unknown.value.problems[0].works
    with pytest.raises(PlanError, match=r"volume\.acess") as misspelt:
        load_profile(["mine.yaml"], {"mine.yaml": "volume: {acess: ReadWriteOnce}"})
    assert "access" in misspelt.value.problems[0].works
    with pytest.raises(PlanError, match="is not YAML"):
        load_profile(["mine.yaml"], {"mine.yaml": "volume: {"})


def test_later_profiles_win() -> None:
    own = {"a.yaml": "retries: 1\nnode: {cpu: 4, gpu: 1}\n", "b.yaml": "node: {cpu: 8}\n"}
    profile = load_profile(["a.yaml", "b.yaml"], own)
    assert (profile.retries, profile.node.cpu, profile.node.gpu) == (1, 8, 1)


def test_what_may_be_lost_is_said() -> None:
    result = rendered("batch", "job", "gke-spot")
    assert any("a preemptible node stays 25s" in text for text in result.warnings)
    source = rendered("batch", "job", "none", "data.source={kind: text, path: corpus}")
    assert any("looked for in the image" in text for text in source.warnings)
