"""Real parts for every test: Valkey servers, a worker process, an API process, COGs, an ONNX model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from landcover.catalog import demo_model_path
from onnx_models import pixel_contract, write_pixel_model
from postgres import PostgresServer, find_binary, running_postgres
from running import Service, start_service

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    """Real labelled images; not part of the repository."""
    if not DATA.is_dir():
        pytest.skip("the real images are not on this machine (../shared/data)")
    return DATA


@pytest.fixture(scope="session")
def demo_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn scene, smaller than the one `landcover up` serves; `demo_labels.tif` lies beside it."""
    from landcover.demo import write_scene

    return write_scene(tmp_path_factory.mktemp("demo"), size_px=2048)


@pytest.fixture(scope="session")
def pixel_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model named `pixels` whose answer is known exactly: `onnx_models.expected_classes`."""
    return write_pixel_model(tmp_path_factory.mktemp("models") / "pixels.onnx", pixel_contract("pixels"))


@pytest.fixture(scope="session")
def shared_service(demo_scene: Path, pixel_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for the whole session, with the demonstration model and `pixels`.

    Tests that stop processes or change scenes start their own.
    """
    service = start_service(
        tmp_path_factory.mktemp("service"), scenes=[demo_scene], models=[demo_model_path(), pixel_model]
    )
    yield service
    service.processes.stop()


@pytest.fixture
def service(shared_service: Service) -> Service:
    """The session's service, cold."""
    shared_service.settle()
    shared_service.forget()
    return shared_service


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for the whole session; tests that stop it start their own."""
    if find_binary("postgres") is None and not os.environ.get("CI"):
        pytest.skip("there is no PostgreSQL server on this machine (Debian: apt-get install postgresql)")
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without tables, of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'landcover.sqlite'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What talks to processes of its own has a second try, which the summary tells: their machine may be busy."""
    for item in items:
        if item.path.parent.name in {"browser", "faults", "integration"}:
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_configure(config: pytest.Config) -> None:
    """Settings of this machine must not leak into tests; which run side by side, so none may spin while it waits."""
    os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
    for name in [name for name in os.environ if name.startswith("LANDCOVER_")]:
        del os.environ[name]
    os.environ["LANDCOVER_WORKER_RUNTIME"] = "onnxruntime"  # exact; a CPU with bf16 would choose the faster one
