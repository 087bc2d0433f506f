"""A sweep submitted to a real head through a tunnel, and what is told of heads that cannot take one."""

import json
import re
import threading
import tomllib
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
import ray
from click.testing import CliRunner
from cluster import HEAD
from packaging.requirements import Requirement
from processes import wait_until
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus
from tunnel import Tunnel

from orchestrator import ray_nodes, results
from orchestrator import submit as submits
from orchestrator.cli import main
from orchestrator.job import COMMAND
from orchestrator.ray_nodes import everywhere
from orchestrator.relay import Relay
from orchestrator.run_command import Refused
from orchestrator.status import Job
from orchestrator.store import ResultStore, StoreError
from orchestrator.submission import Submission
from orchestrator.submit import OLDEST, connect, submit, unauthorized
from orchestrator.sweep import load_sweep

SWEEP = """\
name: sent
trial: {architecture: sent_models.linear, dataset: {name: digits, classes: 3}, steps: 4, batch_size: 32}
grid: {learning_rate: [0.1, 0.01]}
measure: {loss: {every: 2}, hessian_gradient_overlap: {every: 2}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "sent.yaml").write_text(SWEEP)
    (tmp_path / "sent_models.py").write_text(
        "from torch import nn\nimport sent_layers\n\ndef linear(input_shape, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), sent_layers.layer(num_classes))\n"
    )
    (tmp_path / "sent_layers.py").write_text(
        f"import time\nfrom pathlib import Path\nfrom torch import nn\n\ndef layer(num_classes):\n"
        f"    while not Path({str(tmp_path)!r}, 'go').exists():\n        time.sleep(0.05)\n"
        "    return nn.Linear(64, num_classes)\n"
    )
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def ask(*words):
    return CliRunner().invoke(main, words, catch_exceptions=False)


def call(*words):
    return ask("submit", "sent.yaml", *words)


def test_a_sweep_is_run_by_a_cluster_whatever_becomes_of_who_follows_it(local_ray, folder, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "topsecret")
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")  # which Ray's own client would obey
    with Tunnel(urlsplit(local_ray.jobs_address).port) as tunnel:
        address = f"http://127.0.0.1:{tunnel.port}"
        words = ["--address", address, "--results", str(folder / "out/sent"), "--tracking-uri", "none"]
        words += ["--log-format", "json"]
        sent = call(*words, "--no-follow")
        assert sent.exit_code == 0, sent.stderr
        told = [json.loads(line)["message"] for line in sent.stderr.splitlines()]
        job = re.match(r"(sent-\S+): submitted", told[0])[1]
        assert any(f"ray job stop {job} --address {address}" in line for line in told)

        pieces, relayed = [], Relay.write

        def write(self, text):
            relayed(self, text)
            pieces.append(text)
            if len(pieces) == 1:
                tunnel.cut()
                (folder / "go").touch()  # the trials wait for it, so there is more to come

        monkeypatch.setattr(Relay, "write", write)
        followed = call(*words)  # the job is found, and no second begun
        assert len(pieces) > 1
        assert followed.exit_code == 0, followed.stderr
        assert followed.stdout == ""
        everything = [json.loads(line) for line in followed.stderr.splitlines()]
        assert everything[0]["message"].startswith(f"{job}: runs this sweep with these results already")
        lines = [line for line in everything if line["event"] not in ("submit", "log")]
        assert lines[0]["message"] == "sent: 2 of 2 trials to run"
        assert {line["sweep"] for line in lines} == {"sent"}
        for word in ("[1/2] completed", "[2/2] completed", "2 completed. Results:"):
            assert sum(line["message"].startswith(word) for line in lines) == 1

        trials = results.trials(folder / "out/sent")
        assert list(trials.status) == ["completed"] * 2
        assert list(trials.architecture) == ["sent_models.linear"] * 2
        (found,) = [
            each for each in connect(address).list_jobs() if (each.metadata or {}).get("job_name") == "sent"
        ]
        assert found.submission_id == job
        assert "topsecret" not in found.model_dump_json()
        assert {*trials.code_version} == {found.runtime_env["env_vars"]["TINY_SUBSPACE_VERSION"]}
        shown = ask("status", str(folder / "out/sent"), "--address", address)
        assert re.search(rf"job {job}: SUCCEEDED since \S+  {address}/#/jobs/{job}\n", shown.stdout)

    assert set(trials.trial_id) == {line["trial_id"] for line in worker_lines(local_ray)}
    wait_until(lambda: counted(exported(), "trials_finished_total", status="completed") == 2)
    text = exported()
    assert counted(text, "trials_finished_total", status="failed") == pytest.approx(0)
    assert counted(text, "faults_total", fault="node") == pytest.approx(0)
    assert counted(text, "hessian_products_total") == sum(trials.hessian_products) > 0
    assert counted(text, "trials_running") == 0
    # docker/README.md asks for disks by this label
    wait_until(
        lambda: f'ip="{HEAD}"' in "".join(re.findall(r"ray_node_disk_utilization_percentage.*", exported()))
    )


def worker_lines(cluster):
    """What the workers of the sweep have told."""
    lines = cluster.logs("worker-*.err").splitlines()
    found = [json.loads(line) for line in lines if line.startswith('{"time"')]
    return [line for line in found if line.get("sweep") == "sent"]


def exported():
    """What the exporter of the head says."""
    (port,) = [node["MetricsExportPort"] for node in ray.nodes() if node["Alive"]]
    with urlopen(f"http://{HEAD}:{port}/metrics", timeout=10) as answer:
        return answer.read().decode()


def counted(text, name, **tags):
    """A metric's value in what an exporter says, all drivers of the sweep together."""
    found = re.findall(rf"^ray_tiny_subspace_{name}{{(.*)}} (\S+)$", text, re.MULTILINE)
    wanted = [f'{tag}="{value}"' for tag, value in {"sweep": "sent", **tags}.items()]
    values = [float(value) for words, value in found if all(word in words for word in wanted)]
    assert values
    return sum(values)


def test_a_doctor_asks_on_the_cluster(local_ray, folder):
    words = ["--address", local_ray.jobs_address, "--tracking-uri", f"sqlite:///{folder}/mlflow.db"]
    done = ask("doctor", *words, "--results", "/proc/there")
    assert done.exit_code == 1
    answers = [line.split()[:2] for line in done.stdout.splitlines() if line.startswith(("ok ", "FAIL"))]
    asked = ["here", "jobs", "versions", "devices", "kernel", "data", "cluster", "tracking"]
    ill = ["results", "nodes"]
    assert answers == [
        *(["ok", name] for name in asked),
        *(["FAIL", name] for name in ill),
        ["ok", "compared"],
    ]
    assert "FAIL  nodes     /proc/there: cannot be written" in done.stdout
    assert "1 nodes with 2 CPUs and 2 GPUs, Ray " in done.stdout
    assert done.stdout.splitlines()[-1].endswith("the same as here")


def test_every_node_is_asked_whether_results_are_there(local_ray, folder, monkeypatch):
    assert everywhere(local_ray.address, str(folder / "out")).startswith("1 of 1 can write ")
    assert list((folder / "out").iterdir()) == []
    monkeypatch.setattr(
        ray_nodes, "marked", lambda results, mark: nullcontext()
    )  # as where each node has its own
    with pytest.raises(StoreError, match=f"node {HEAD}: .*/out: is a folder of its own there"):
        everywhere(local_ray.address, str(folder / "out"))


def test_what_a_doctor_cannot_ask_is_told(folder):
    assert (
        "a relative path would lie in" in ask("doctor", "--address", "http://h:1", "--results", "out").stderr
    )
    assert ask("doctor", "--address", "ray://h:1").exit_code == 2
    with answering(200, "") as address:
        pass
    done = ask("doctor", "--address", address)
    assert done.exit_code == 1
    assert f"FAIL  jobs      {address}: no Ray cluster: Connection refused" in done.stdout


def test_a_status_of_results_that_are_not_there_yet_still_tells_of_the_job(folder, monkeypatch):
    job = Job(
        "sent-1", "RUNNING", "2026-01-01T00:00:00+00:00", "http://h/#/jobs/sent-1", "the job waits", None
    )
    monkeypatch.setattr(submits, "jobs", lambda address, path: [job])
    done = ask("status", str(folder / "out/none"), "--address", "http://h:1")
    assert done.exit_code == 2
    assert done.stderr.startswith(
        "job sent-1: RUNNING since 2026-01-01T00:00:00+00:00  http://h/#/jobs/sent-1\n"
    )


def test_what_a_job_has_left_is_gone_on_with_by_a_job(folder, monkeypatch):
    ResultStore(folder / "out").begin(load_sweep(folder / "sent.yaml"))
    job = Job("sent-1", "FAILED", None, "http://h/#/jobs/sent-1", None, "tiny-subspace submit sent.yaml")
    monkeypatch.setattr(submits, "jobs", lambda address, path: [job])
    shown = ask("status", str(folder / "out"), "--address", "http://h:1").stdout
    assert "to go on: tiny-subspace submit sent.yaml\n" in shown
    assert "tiny-subspace run" not in shown


@pytest.mark.parametrize("live", [True, False])
def test_jobs_with_these_results_are_those_at_work_or_else_the_last(monkeypatch, live):
    def details(name, status, began, results="/out/sent"):
        return SimpleNamespace(
            submission_id=name,
            job_id=None,
            status=JobStatus(status),
            start_time=began,
            end_time=began + 1000,
            metadata={"results": results},
            runtime_env={"env_vars": {COMMAND: f"submit {name}"}},
            message="",
            error_type=None,
            driver_exit_code=137,
        )

    found = [details("a", "FAILED", 1000), details("b", "RUNNING" if live else "FAILED", 2000)]
    found += [details("c", "FAILED", 3000), details("d", "RUNNING", 4000, "/out/other")]
    monkeypatch.setattr(submits, "connect", lambda address: SimpleNamespace(list_jobs=lambda: found))
    (job,) = submits.jobs("http://h:1", "/out/sent/")
    if live:
        assert (job.submission_id, job.since, job.ending) == ("b", "1970-01-01T00:00:02+00:00", None)
        assert job.command == "submit b"
    else:
        assert (job.submission_id, job.since) == ("c", "1970-01-01T00:00:04+00:00")
        assert job.ending == "the driver was killed (SIGKILL)"


def test_what_the_cluster_refuses_ends_with_2_and_its_reason(local_ray, folder):
    done = call("--address", local_ray.jobs_address, "--results", "/proc/sent")
    assert done.exit_code == 2, done.stderr
    assert "/proc/sent: cannot be written" in done.stderr


def answering(status, body):
    """A server whose every answer is this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *arguments): ...

    @contextmanager
    def running():
        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            yield f"http://127.0.0.1:{server.server_address[1]}"
            server.shutdown()

    return running()


def version(number):
    return json.dumps({"version": "4", "ray_version": number, "ray_commit": "x", "session_name": "y"})


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, version("2.9.3"), "the cluster has Ray 2.9.3; 2.50 or later is needed"),
        (200, version("1.13.0"), "no Ray cluster to submit to: Ray version 1.13.0 is running"),
        (200, "<html>", "what answers there is no Ray dashboard"),
        (404, "", "no Ray cluster to submit to: Version check returned 404"),
        (502, "", "no Ray cluster to submit to: 502 Server Error"),
        (
            401,
            "Unauthorized",
            "asks for a token: set RAY_AUTH_MODE=token, with its token in RAY_AUTH_TOKEN_PATH",
        ),
        (403, "Forbidden", "the token is not that of the cluster"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_head_that_cannot_take_jobs_is_told_in_one_line(folder, status, body, words):
    with answering(status, body) as address:
        done = call("--address", address, "--results", "/out/sent")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"{address}: {words}") or words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_nobody_there_is_told_at_once(folder):
    with answering(200, "") as address:
        pass
    done = call("--address", address, "--results", "/out/sent")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"{address}: no Ray cluster: Connection refused; is the head running")
    assert len(done.stderr.splitlines()) == 1


def test_a_token_that_is_not_here_is_told():
    error = AuthenticationError(
        "Token authentication is enabled but Ray couldn't find an authentication token."
    )
    assert unauthorized(error).startswith(
        "RAY_AUTH_MODE=token is set, and there is no token in RAY_AUTH_TOKEN_PATH"
    )


class Jobs:
    """A jobs client that takes nothing."""

    def __init__(self, error):
        self._error = error

    def list_jobs(self):
        return []

    def submit_job(self, **_):
        raise self._error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError("Request failed with status code 413: Maximum request body size"),
            "files are too large",
        ),
        (
            RuntimeError(
                "Request failed with status code 500: Traceback (most recent call last):\n…\nE: full"
            ),
            "E: full",
        ),
        (ConnectionResetError("Connection reset by peer"), "did not take the job: Connection reset by peer"),
    ],
    ids=["413", "500", "reset"],
)
def test_a_job_that_is_not_taken_is_told_in_one_line(folder, monkeypatch, error, words):
    monkeypatch.setattr(submits, "connect", lambda address: Jobs(error))
    with pytest.raises(Refused) as refused:
        submit(Submission(load_sweep(folder / "sent.yaml"), "http://head:8265", "/out/sent"))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["text", "json"])
def test_with_json_every_line_is_an_object(folder, monkeypatch, capsys, kind):
    """Of a job that was submitted with text, whose log comes in pieces that end anywhere."""
    submission = Submission(load_sweep(folder / "sent.yaml"), "http://h:1", "/out/sent", log_format=kind)
    log = 'Running entrypoint …\n{"event": "begin"}\n\n[1/2] done'
    entrypoint = submission.entrypoint.replace(" --log-format json", "")

    class Running:
        def list_jobs(self):
            job = {"submission_id": "sent-1", "status": JobStatus.RUNNING, "entrypoint": entrypoint}
            return [SimpleNamespace(metadata=submission.metadata, **job)]

        async def tail_job_logs(self, job_id):
            for start in range(0, len(log), 7):
                yield log[start : start + 7]

        def get_job_info(self, job_id):
            return SimpleNamespace(status="FAILED", message="", error_type=None, driver_exit_code=137)

        def get_job_logs(self, job_id):
            return log

    monkeypatch.setattr(submits, "connect", lambda address: Running())
    assert submit(submission) == 1
    written = capsys.readouterr().err
    if kind == "text":
        assert log in written
        assert "as text" not in written
    else:
        found = [(line["event"], line.get("message", "")) for line in map(json.loads, written.splitlines())]
        assert [each for each in found if each[0] != "submit"] == [
            ("log", "Running entrypoint …"),
            ("begin", ""),
            ("log", "[1/2] done"),
        ]
        own = [message for event, message in found if event == "submit"]
        assert own[0].startswith("sent-1: runs this sweep")
        assert own[1].startswith("it was submitted with its log as text")
        assert own[-1].startswith("sent-1: the driver was killed (SIGKILL)")


def test_the_oldest_ray_is_that_of_pyproject():
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    (ray,) = [need for need in map(Requirement, project["dependencies"]) if need.name == "ray"]
    assert str(ray.specifier) == f">={'.'.join(map(str, OLDEST))}"
