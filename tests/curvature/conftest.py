"""The snapshot of tests of measurements, and its training samples as a case for dense matrices."""

import pytest
from snapshots import SPEC, case_of, data_of, snapshot_of


@pytest.fixture(scope="module")
def data():
    return data_of(SPEC)


@pytest.fixture(scope="module")
def snapshot(data):
    return snapshot_of(SPEC, data=data)


@pytest.fixture(scope="module")
def train(snapshot, data):
    return case_of(snapshot, data.x_train, data.y_train)
