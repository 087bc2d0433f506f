"""The two small programs that containers run: a health check, and what makes buckets."""

import importlib.util
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import boto3
import pytest
from composed import FOLDER
from moto import mock_aws


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 503)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with HTTPServer(("127.0.0.1", 0), Answers) as served:
        thread = Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


def healthy(*urls):
    done = subprocess.run(
        [sys.executable, FOLDER / "healthy.py", *urls], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def test_healthy_where_every_address_answers(server):
    assert healthy(f"{server}/health", f"{server}/health") == (0, "")


def test_unhealthy_where_one_refuses_or_nobody_listens(server):
    code, said = healthy(f"{server}/health", f"{server}/broken", "http://127.0.0.1:1/health")
    assert code == 1
    assert [line.partition(": ")[0] for line in said.splitlines()] == [
        f"{server}/broken",
        "http://127.0.0.1:1/health",
    ]


@mock_aws
def test_buckets_are_made_once(monkeypatch):
    for name, value in {
        "ACCESS_KEY_ID": "a",
        "SECRET_ACCESS_KEY": "b",
        "DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    found = importlib.util.spec_from_file_location("make_buckets", FOLDER / "make_buckets.py")
    make_buckets = importlib.util.module_from_spec(found)
    found.loader.exec_module(make_buckets)
    store = boto3.client("s3")
    make_buckets.make(["results"])
    store.put_object(Bucket="results", Key="kept", Body=b"x")
    make_buckets.make(["results", "mlflow"])
    assert {bucket["Name"] for bucket in store.list_buckets()["Buckets"]} == {"results", "mlflow"}
    assert store.get_object(Bucket="results", Key="kept")["Body"].read() == b"x"
