"""KubeRay's manifests: the Kubernetes part against Kubernetes' schemas, Ray's part against its API reference."""

import re
import shlex

import click
import kubernetes_validate
import pytest
from command_options import options
from composed import FOLDER, read, read_all
from test_docker import SERVICES, pins

from orchestrator.cli import main

MANIFESTS = ("kuberay/raycluster.yaml", "kuberay/rayjob.yaml")
KUBERNETES = "1.34"

FIELDS = {
    "cluster": {"rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec",
                "workerGroupSpecs"},
    "head": {"rayStartParams", "template"},
    "worker": {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"},
    "job": {"entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit", "rayClusterSpec"},
    "autoscaler": {"version", "idleTimeoutSeconds"},
}  # fmt: skip
"""The fields of ray.io/v1 that we use, by https://ray-project.github.io/kuberay/reference/api: all of each are meant."""


def cluster(file):
    manifest = read(file)
    return manifest["spec"]["rayClusterSpec"] if manifest["kind"] == "RayJob" else manifest["spec"]


def groups(file):
    return [cluster(file)["headGroupSpec"], *cluster(file)["workerGroupSpecs"]]


@pytest.mark.parametrize("file", MANIFESTS)
def test_shape_of_the_custom_resources(file):
    (manifest,) = read_all(file)
    assert manifest.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert manifest["apiVersion"] == "ray.io/v1"
    assert manifest["kind"].lower() == file.partition("/")[2].removesuffix(".yaml")
    assert re.fullmatch(r"[a-z]([a-z0-9-]{0,45}[a-z0-9])?", manifest["metadata"]["name"])
    if manifest["kind"] == "RayJob":
        assert manifest["spec"].keys() == FIELDS["job"]
    spec = cluster(file)
    assert spec.keys() == FIELDS["cluster"]
    assert spec["headGroupSpec"].keys() == FIELDS["head"]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"].keys() == FIELDS["autoscaler"]
    assert spec["autoscalerOptions"]["version"] == "v2"
    for group in spec["workerGroupSpecs"]:
        assert group.keys() == FIELDS["worker"]
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] > 0
    assert len({group["groupName"] for group in spec["workerGroupSpecs"]}) == len(spec["workerGroupSpecs"])


@pytest.mark.parametrize("file", MANIFESTS)
def test_pods_follow_kubernetes_schemas(file):
    for group in groups(file):
        pod = {
            "apiVersion": "v1",
            "kind": "PodTemplate",
            "metadata": {"name": "x"},
            "template": group["template"],
        }
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        spec = group["template"]["spec"]
        assert spec["restartPolicy"] == "Never"  # the autoscaler's second version asks for it
        assert spec["securityContext"]["runAsNonRoot"]
        volumes = {volume["name"] for volume in spec.get("volumes", ())}
        for container in spec["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", ())} == volumes
            assert (
                container["resources"]["requests"] == container["resources"]["limits"]
            )  # what Ray counts on


@pytest.mark.parametrize("file", MANIFESTS)
def test_nodes_are_of_the_image_and_get_their_secrets_by_reference(file):
    assert cluster(file)["rayVersion"] == pins()["ray"]
    tag = SERVICES["head"].rest["image"].partition(":")[2]
    for group in groups(file):
        for container in group["template"]["spec"]["containers"]:
            assert container["image"].endswith(f"/tiny-subspace:{tag}")
            assert container["envFrom"] == [{"secretRef": {"name": "tiny-subspace-storage"}}]
            assert "env" not in container


@pytest.mark.parametrize("file", MANIFESTS)
def test_ray_starts_with_options_that_it_has(file):
    known = options("ray", "start")
    for group in groups(file):
        assert all(known[f"--{name}"] for name in group["rayStartParams"])
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    assert cluster(file)["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_job_runs_a_sweep_that_every_node_sees():
    job = read("kuberay/rayjob.yaml")["spec"]
    program, verb, *words = shlex.split(job["entrypoint"])
    assert program == "tiny-subspace"
    run = main.commands[verb]
    values, _, _ = run.make_parser(click.Context(run)).parse_args(words)
    assert values["address"] == "auto"
    assert values["results"].startswith("s3://results/")
    for group in groups("kuberay/rayjob.yaml"):
        (mount,) = [
            mount
            for container in group["template"]["spec"]["containers"]
            for mount in container["volumeMounts"]
            if mount["name"] == "sweep"
        ]
        assert f"{mount['mountPath']}/sweep.yaml" == values["file"]
        assert "subPath" not in mount  # with it a user's own files would need a mount each
    name = "tiny-subspace-sweep"
    assert f"create configmap {name} --from-file=sweep.yaml=" in (FOLDER / "kuberay/rayjob.yaml").read_text()
