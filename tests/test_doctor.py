"""The doctor: every question answered, nothing that fails stops the others."""

import pytest
import torch
from cluster import free_ports

from orchestrator import doctor as doctors
from orchestrator.doctor import Check, doctor, self_test
from orchestrator.run_command import Refused


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("TINY_SUBSPACE_DATA", str(tmp_path / "data"))


@pytest.fixture
def no_kernel(monkeypatch):
    monkeypatch.setattr(doctors, "self_test", lambda: "exact")


def lines(**asked):
    said = []
    return doctor(**asked, say=said.append), said


def test_the_kernel_is_exact():
    assert "are exact to" in self_test("cpu")


def test_a_kernel_that_is_wrong_fails(monkeypatch):
    import workers.curvature

    right = workers.curvature.top_eigenpairs

    def wrong(*arguments, **options):
        pairs = right(*arguments, **options)
        pairs.values[3] *= 1 + 1e-6
        return pairs

    monkeypatch.setattr("workers.curvature.top_eigenpairs", wrong, raising=False)
    code, said = lines()
    assert code == 1
    assert ["kernel    eigenvalues on " in line for line in said if line.startswith("FAIL")] == [True]


@pytest.mark.usefixtures("no_kernel")
def test_all_well_is_zero_with_versions_and_devices():
    code, said = lines()
    assert code == 0
    assert all(line.startswith("ok  ") for line in said)
    assert f"torch {torch.__version__.partition('+')[0]}" in said[0]
    assert "cpu" in said[1]
    assert "nothing there yet" in said[3]


@pytest.mark.usefixtures("no_kernel")
def test_what_fails_says_what_to_do_and_the_rest_is_still_asked(tmp_path, monkeypatch):
    def lost(address):
        raise ConnectionError(f"nobody at {address}\nand much more")

    monkeypatch.setattr(doctors, "_cluster", lost)
    (tmp_path / "file").write_text("x")
    code, said = lines(
        address="ray://there:1", tracking_uri="http://127.0.0.1:1", results=tmp_path / "file" / "results"
    )
    assert code == 1
    text = "\n".join(said)
    assert "FAIL  cluster   nobody at ray://there:1\n" in text
    assert "and much more" not in text
    assert "is the head running" in text
    assert "FAIL  tracking  Connection refused\n" in text
    assert "--tracking-uri none" in text
    assert "FAIL  results   " in text
    assert "choose another folder with --results" in text


@pytest.mark.usefixtures("no_kernel")
def test_a_store_and_a_folder_that_answer_are_ok(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    code, said = lines(results=tmp_path / "results")
    assert code == 0
    assert said[-2].endswith(f"{tmp_path}/mlflow.db is not there yet; the first run makes it")
    assert said[-1].endswith("can be written")


def test_a_dashboard_is_asked_as_by_submit():
    (port,) = free_ports(1)
    with pytest.raises(Refused, match="is the head running, and is this its dashboard's port"):
        doctors._cluster(f"http://127.0.0.1:{port}")


def test_a_data_folder_that_cannot_be_written_fails(tmp_path, monkeypatch):
    monkeypatch.setattr("orchestrator.doctor.os.access", lambda *_: False)
    with pytest.raises(PermissionError, match="cannot be written"):
        doctors.data_folder(tmp_path / "data")


def test_what_lies_in_the_data_folder_is_listed(tmp_path):
    (tmp_path / "MNIST").mkdir()
    assert f"{tmp_path}: MNIST; " in doctors.data_folder(tmp_path)


def test_an_answer_is_a_line_and_advice_follows_only_a_failure():
    assert str(Check("results", True, "fine", "do this")) == "ok    results   fine"
    assert str(Check("results", False, "no", "do this")) == "FAIL  results   no\n                do this"
