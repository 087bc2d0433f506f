"""Results in an object store: a sweep's life on S3's protocol, served on this machine by moto."""

import html
import re
import socket
import time

import boto3
import moto.s3.models
import pandas as pd
import pytest
import samples
import searching
from moto.server import ThreadedMotoServer

from orchestrator import results
from orchestrator.compaction import compact
from orchestrator.files import Folder
from orchestrator.mirror import mirror
from orchestrator.report.make import make
from orchestrator.status import status
from orchestrator.store import ResultStore, StoreError
from workers.result import TrialStatus


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(autouse=True)
def environment(monkeypatch, endpoint):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def bucket(endpoint):
    """A fresh, empty bucket."""
    made = boto3.resource("s3", endpoint_url=endpoint, region_name="us-east-1").Bucket("bucket")
    made.create()
    yield made
    made.objects.delete()
    made.delete()


@pytest.fixture
def store(bucket):
    made = ResultStore("s3://bucket/results/sample")
    made.begin(samples.sweep())
    return made


def commit(store, seed=0, status=TrialStatus.COMPLETED):
    spec = samples.spec(seed=seed)
    store.commit(spec, "sample", samples.result(status), samples.rows())
    return spec.trial_id


def objects(bucket):
    return {found.key: found.size for found in bucket.objects.all()}


def test_a_sweep_is_written_read_compacted_and_resumed(store, bucket):
    trial_ids = {commit(store, seed) for seed in range(3)}
    again = ResultStore("s3://bucket/results/sample")
    again.begin(samples.sweep())
    assert again.sweep_name() == "sample"
    assert again.finished() == dict.fromkeys(trial_ids, TrialStatus.COMPLETED)
    for files in (8, 4):  # three of each table and 0-columns, then one part
        plain = pd.read_parquet("s3://bucket/results/sample/measurements")
        pd.testing.assert_frame_equal(results.measurements(str(store)), plain)
        assert len(plain) == 12
        assert len(results.eigenvalues(str(store))) == 36
        assert set(results.trials(str(store)).trial_id) == trial_ids
        assert len([key for key in objects(bucket) if key.endswith(".parquet")]) == files
        compact(store)
    empty = [key for key, size in objects(bucket).items() if not size]
    assert all(key.endswith("/") for key in empty), (
        "S3's stand-ins for folders, which pyarrow leaves on deletion"
    )


def test_its_state_is_told_and_its_runs_are_mirrored(store, tmp_path):
    done, failed = commit(store), commit(store, 1, TrialStatus.FAILED)
    found = status(str(store))
    assert found.finished["completed"] == 1
    assert [failure.trial_id for failure in found.failures] == [failed]
    assert "--results s3://bucket/results/sample" in found.failures[0].rerun
    assert mirror(str(store), f"sqlite:///{tmp_path / 'mlflow.db'}") == 2
    assert done in store.finished()


def test_a_search_that_stopped_goes_on_and_its_record_lies_there(bucket, tmp_path):
    search = (
        f"{{sampler: cmaes, trials: 6, metric: train_loss, direction: minimize, space: {searching.SPACE}}}"
    )
    some, place = searching.sweep(tmp_path, search), "s3://bucket/results/s"
    first, second = searching.Counted(dies_at=4), searching.Counted()
    assert searching.run(some, ResultStore(place), first).exit_code == 1
    assert searching.run(some, ResultStore(place), second).exit_code == 0
    assert second.begun.total() == 3
    assert len(ResultStore(place).finished()) == 6
    table = results.searched(place)
    assert table.number.tolist() == list(range(6))
    assert set(table.trial_id) == first.begun.keys() | second.begun.keys()
    assert f"results/s/search/{some.searches[0].key}-00000.jsonl" in objects(bucket)
    assert status(place).searches[0].asked == 6


def test_a_checkpoint_is_put_found_and_removed(bucket):
    folder = Folder.at("s3://bucket/x")
    assert folder.names("checkpoints") == []
    folder.write("checkpoints/ab-1.ckpt", b"state")
    assert folder.names("checkpoints") == ["ab-1.ckpt"]
    assert Folder.at("s3://bucket/x").read("checkpoints/ab-1.ckpt") == b"state"
    folder.remove("checkpoints/ab-1.ckpt")
    folder.remove("checkpoints/ab-1.ckpt")
    assert folder.read("checkpoints/ab-1.ckpt") is None
    assert folder.names("checkpoints") == []


def test_what_cannot_be_stored_leaves_no_object_behind(bucket):
    with pytest.raises(TypeError):
        Folder.at("s3://bucket/x").write("file", object())
    assert objects(bucket) == {}


def test_a_large_file_that_is_broken_off_leaves_the_earlier_one_whole(bucket, monkeypatch):
    """A file beyond 5 MB goes up in pieces; here the store refuses the second."""
    folder = Folder.at("s3://bucket/x")
    folder.write("file", b"earlier")
    taken = moto.s3.models.S3Backend.upload_part
    pieces = []

    def refuse(backend, bucket_name, multipart_id, part_id, value):
        pieces.append(part_id)
        if part_id > 1:
            raise moto.s3.exceptions.InvalidPart
        return taken(backend, bucket_name, multipart_id, part_id, value)

    monkeypatch.setattr(moto.s3.models.S3Backend, "upload_part", refuse)
    with pytest.raises(OSError, match=r"UploadPart operation"):
        folder.write("file", b"x" * 25_000_000)
    assert len(pieces) > 1
    assert folder.read("file") == b"earlier"


def test_a_torn_file_is_put_aside_and_its_trial_runs_again(store, bucket):
    whole, hurt = commit(store), commit(store, 1)
    name = f"measurements/{hurt}.parquet"
    store.folder.write(name, store.folder.read(name)[:-100])
    assert set(store.finished()) == {whole}
    (line,) = store.begin(samples.sweep())
    assert line.startswith(f"s3://bucket/results/sample/{name}: is damaged")
    assert f"results/sample/measurements/.damaged-{hurt}.parquet" in objects(bucket)
    assert len(pd.read_parquet("s3://bucket/results/sample/measurements")) == 4


# --- what can go wrong ---


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIA:hidden@bucket/x",
        "s3://AKIA:hid/den@bucket/x",
        "s3://hidden@bucket/x",
        "s3://bucket/x?secret_key=hidden",
        "s3://bucket/x?access_key=hidden&region=us-east-1",
        "abfs://account:hidden@host/x",
    ],
)
def test_credentials_in_a_uri_are_refused_and_not_repeated(uri):
    with pytest.raises(StoreError, match="set the environment variables AWS_ACCESS_KEY_ID") as caught:
        ResultStore(uri)
    assert "hid" not in str(caught.value)
    assert "AKIA" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_unknown_option_is_a_line():
    with pytest.raises(StoreError, match=r"regoin: unknown; after the \? there can be region, scheme"):
        ResultStore("s3://bucket/x?regoin=eu")


def test_the_endpoint_may_stand_in_the_uri(store, endpoint, monkeypatch):
    commit(store)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    host = endpoint.removeprefix("http://")
    uri = f"s3://bucket/results/sample?endpoint_override={host}&scheme=http"
    assert len(ResultStore(uri).finished()) == 1


def test_a_bucket_that_is_not_there_is_a_line_that_names_the_file():
    store = ResultStore("s3://nowhere/x")
    assert store.finished() == {}
    said = r"^s3://nowhere/x/sweep\.yaml: cannot be written: no such bucket: The specified bucket does not exist$"
    with pytest.raises(StoreError, match=said) as caught:
        store.begin(samples.sweep())
    assert isinstance(caught.value.__cause__, OSError)


def test_an_endpoint_that_is_gone_is_a_line_within_seconds(monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
    began = time.monotonic()
    store = ResultStore("s3://bucket/x")
    for ask in (store.sweep_text, store.finished):
        with pytest.raises(
            StoreError, match=r"^s3://bucket/x.*: cannot be read: network connection: .*"
        ) as caught:
            ask()
        assert "\n" not in str(caught.value)
    # Two failures of three attempts, with random pauses between them: 3 s, and 6 s at most. pyarrow's own
    # settings take 6 s for one.
    assert time.monotonic() - began < 11


def test_a_report_is_made_here_and_its_lines_read_the_bucket(store, tmp_path):
    spec = samples.spec()
    store.commit(spec, "sample", samples.result(), [{"step": 0, "train_loss": 0.5}])
    page = make("s3://bucket/results/sample/", tmp_path / "report").read_text(encoding="utf-8")
    (code,) = re.findall(r"<pre><code>(.*?)</code></pre>", page, re.DOTALL)
    space: dict[str, pd.Series] = {}
    exec(html.unescape(code), space)
    assert space["data"].tolist() == [0.5]
