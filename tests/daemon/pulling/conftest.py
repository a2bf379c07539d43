"""One MLflow server and one bucket for all tests of pulls."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.pulling.servers import Bucket, MLflow


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflow]:
    with MLflow(tmp_path_factory.mktemp("mlflow")) as server:
        # It makes the tables of its database first.
        server.wait_live(180)
        yield server


@pytest.fixture(scope="session")
def session_bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with Bucket(tmp_path_factory.mktemp("bucket")) as server:
        server.wait_live(60)
        yield server


@pytest.fixture
def bucket(session_bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """The environment of this process names it."""
    for name, value in session_bucket.environment.items():
        monkeypatch.setenv(name, value)
    return session_bucket


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty model repository."""
    (tmp_path / "models").mkdir()
    return tmp_path / "models"
