"""One block from task to cache: real servers, a real image, a real ONNX model; only the queue is missing."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import redis

from image_server import image_server
from landcover import block
from landcover.contract import ModelFile, read_model
from landcover.coordination import CLAIM_SCRIPT, BlockDesk, read_failure
from landcover.errors import BlockFailed, LandcoverError, SceneChanged, SceneTooSlow, SceneUnreadable, Unavailable
from landcover.keys import DEAD_LETTERS, DONE_CHANNEL, BlockKey
from landcover.queue import BlockTask
from landcover.scene import SceneSource, current_version
from landcover.settings import ReadSettings
from landcover_worker.maker import BlockMaker
from landcover_worker.networks import LoadedNetwork
from landcover_worker.settings import WorkerSettings
from landcover_worker.supervision import BlocksInHand
from onnx_models import expected_classes, pixel_contract, write_pixel_model
from rasters import noise, write_tif
from servers import Servers

READ = ReadSettings(timeout_s=0.4)
BLOCK_PX = 64


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedNetwork]:
    contract = pixel_contract("pixels", window_px=96, halo_px=16)
    path = write_pixel_model(tmp_path_factory.mktemp("model") / "a.onnx", contract)
    loaded = LoadedNetwork(read_model(path), WorkerSettings(device="cpu", cpu_threads=1))
    yield loaded
    loaded.close()


class Bench:
    """A maker and what surrounds it."""

    def __init__(self, servers: Servers, network: LoadedNetwork) -> None:
        self.servers = servers
        self.network = network
        self.infer: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] = network.infer
        self.inferences = 0
        self.alone: list[bool] = []
        desk = BlockDesk(servers.cache, servers.broker, worker="one", block_ttl_s=100)
        self.maker = BlockMaker(
            desk=desk,
            in_hand=BlocksInHand(desk, 60),
            network_of=lambda digest: self.counting if digest == network.model.digest else None,
            read=READ,
            max_attempts=3,
        )

    @property
    def counting(self) -> CountingNetwork:
        return CountingNetwork(self)

    def task(self, location: str, row: int = 0, col: int = 0, **change: object) -> BlockTask:
        source = SceneSource(id="scene", location=location)
        task = BlockTask(
            source=source,
            version=current_version(source, READ),
            digest=self.network.model.digest,
            decimation=1,
            row=row,
            col=col,
        )
        return task.model_copy(update=change)

    def want(self, key: BlockKey) -> str:
        """Claim it, as the API does for a waiter."""
        script = self.servers.cache.register_script(CLAIM_SCRIPT)
        return script(keys=[key.block, key.marker, key.lease, key.failure], args=[30_000, 60_000]).decode()

    def make(self, task: BlockTask) -> str:
        self.want(task.key)
        return self.maker.make(task)

    def failure(self, task: BlockTask) -> LandcoverError:
        """The failure that waiters are told, which is then forgotten as time would."""
        error = read_failure(self.servers.cache.get(task.key.failure))
        self.servers.cache.delete(task.key.failure)
        return error

    def layer(self, task: BlockTask, layer: block.Layer) -> np.ndarray:
        return block.decode(self.servers.cache.hget(task.key.block, block.field(layer, 0)), BLOCK_PX)


class CountingNetwork:
    """The network, or what the test has put in its place."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.model: ModelFile = bench.network.model

    def infer(
        self, image: np.ndarray, *, on_start: Callable[[], None], alone: bool, urgent: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        self._bench.inferences += 1
        self._bench.alone.append(alone)
        on_start()
        return self._bench.infer(image)


@pytest.fixture
def bench(servers: Servers, network: LoadedNetwork) -> Bench:
    return Bench(servers, network)


def test_a_block_is_the_models_map_of_the_images_pixels(bench: Bench, tmp_path: Path) -> None:
    """The last one, which the scene fills in part: what is beyond it is unknown, and so is a hole in the mask."""
    pixels = noise(150, 170)
    mask = np.ones((150, 170), bool)
    mask[130:140, 135:150] = False
    task = bench.task(str(write_tif(tmp_path / "a.tif", pixels, mask=mask)), 2, 2)
    assert bench.make(task) == "made"
    expected, confidence = np.zeros((2, BLOCK_PX, BLOCK_PX), np.uint8)
    expected[:22, :42] = np.where(mask, expected_classes(pixels), 0)[128:, 128:]
    confidence[:22, :42] = np.where(mask, pixels[..., 1], 0)[128:, 128:]
    assert np.array_equal(bench.layer(task, "class"), expected)
    assert np.array_equal(bench.layer(task, "confidence"), confidence)
    counts = block.decode_histogram(bench.servers.cache.hget(task.key.block, block.HISTOGRAM_FIELD))
    assert counts.pixels.tolist() == np.bincount(expected.ravel(), minlength=9).tolist()
    assert bench.make(task) == "ready"
    assert bench.inferences == 1


def test_what_nobody_wants_is_not_made(bench: Bench, tmp_path: Path) -> None:
    task = bench.task(str(write_tif(tmp_path / "a.tif", noise(70, 70))))
    assert bench.maker.make(task) == "unwanted"
    assert bench.inferences == 0


def test_a_block_without_data_needs_no_network(bench: Bench, tmp_path: Path) -> None:
    task = bench.task(str(write_tif(tmp_path / "a.tif", np.zeros((70, 70, 3), np.uint8), nodata=0)))
    assert bench.make(task) == "made"
    assert not bench.layer(task, "class").any()
    assert bench.inferences == 0


def test_two_workers_at_one_block(bench: Bench, network: LoadedNetwork, tmp_path: Path) -> None:
    task = bench.task(str(write_tif(tmp_path / "a.tif", noise(70, 70))))
    other = Bench(bench.servers, network)
    began, go = threading.Event(), threading.Event()

    def slowly(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        began.set()
        assert go.wait(10)
        return network.infer(image)

    bench.infer = slowly
    bench.want(task.key)
    outcome: list[str] = []
    thread = threading.Thread(target=lambda: outcome.append(bench.maker.make(task)))
    thread.start()
    assert began.wait(10)
    assert other.maker.make(task) == "taken"
    go.set()
    thread.join()
    assert outcome == ["made"]
    assert other.inferences == 0


@pytest.mark.parametrize("failures", [4])
def test_a_damaged_image_is_told_each_time_and_never_a_dead_letter(bench: Bench, tmp_path: Path, failures: int) -> None:
    """Who mends it has their map at once, however often it was asked for meanwhile."""
    path = write_tif(tmp_path / "a.tif", noise(200, 200))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    task = bench.task(str(path), 2, 2)
    for _ in range(failures):
        assert bench.make(task) == "failed"
        assert isinstance(bench.failure(task), SceneUnreadable)
    assert bench.servers.broker.keys() == []
    path.write_bytes(whole)
    assert bench.make(bench.task(str(path), 2, 2)) == "made"


def test_a_network_that_fails_is_tried_three_times(bench: Bench, tmp_path: Path) -> None:
    task = bench.task(str(write_tif(tmp_path / "a.tif", noise(70, 70))))

    def fail(_: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise RuntimeError("CUDA out of memory at 0x1234")

    bench.infer = fail
    for _ in range(3):
        assert bench.make(task) == "error"
        error = bench.failure(task)
        assert type(error) is BlockFailed
        assert "0x1234" not in str(error)
    assert bench.make(task) == "dead"
    assert bench.alone == [False, True, True]  # what failed once may harm no other window
    assert "failed 3 times" in str(bench.failure(task))
    assert bench.servers.broker.hexists(DEAD_LETTERS, task.key.text)
    assert bench.inferences == 3


def test_a_block_that_kills_its_worker_is_not_begun_for_ever(bench: Bench, tmp_path: Path) -> None:
    """A death leaves the count standing and says nothing."""
    task = bench.task(str(write_tif(tmp_path / "a.tif", noise(70, 70))))
    bench.servers.broker.set(task.key.attempts, 3)
    assert bench.make(task) == "dead"
    assert bench.inferences == 0
    assert bench.want(task.key) == "failed"


@pytest.mark.parametrize("trouble", [redis.ConnectionError("away"), redis.OutOfMemoryError("OOM")], ids=str)
def test_a_block_that_cannot_be_stored_is_not_at_fault(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: redis.RedisError
) -> None:
    task = bench.task(str(write_tif(tmp_path / "a.tif", noise(70, 70))))
    bench.servers.broker.set(task.key.attempts, 1)  # one of its own, which stays

    def fail(*_: object) -> None:
        raise trouble

    with monkeypatch.context() as patch:
        patch.setattr(BlockDesk, "finish", fail)
        for _ in range(4):
            assert bench.make(task) == "unstored"
            bench.servers.cache.flushall()  # as time would have the lease lapse
    assert bench.servers.broker.get(task.key.attempts) == b"1"
    assert bench.make(task) == "made"
    assert bench.servers.broker.keys() == []


@pytest.mark.parametrize("server", ["cache", "broker"])
def test_without_a_server_the_task_ends_without_an_error(
    servers: Servers, network: LoadedNetwork, tmp_path: Path, server: str
) -> None:
    bench = Bench(servers, network)
    task = bench.task(str(write_tif(tmp_path / "a.tif", noise(70, 70))))
    bench.want(task.key)
    away = redis.Redis(port=1)
    desk = BlockDesk(
        away if server == "cache" else servers.cache,
        away if server == "broker" else servers.broker,
        worker="one",
        block_ttl_s=100,
    )
    bench.maker._desk = desk
    assert bench.maker.make(task) == "unstored"


def test_a_replaced_image_is_another_scene(bench: Bench, tmp_path: Path) -> None:
    path = write_tif(tmp_path / "a.tif", noise(70, 70))
    old = bench.task(str(path))
    os.utime(path, ns=(5, 5))
    assert bench.make(old) == "failed"
    assert isinstance(bench.failure(old), SceneChanged)
    assert bench.make(bench.task(str(path))) == "made"


@pytest.mark.parametrize("change", [{"decimation": 2}, {"row": 2}, {"col": 9}], ids=str)
def test_a_task_for_another_grid(bench: Bench, tmp_path: Path, change: dict[str, int]) -> None:
    task = bench.task(str(write_tif(tmp_path / "a.tif", noise(70, 70))), **change)
    assert bench.make(task) == "failed"
    assert isinstance(bench.failure(task), SceneChanged)


def test_a_model_that_is_not_here(bench: Bench, tmp_path: Path) -> None:
    task = bench.task(str(write_tif(tmp_path / "a.tif", noise(70, 70))), digest="sha256:" + "0" * 64)
    assert bench.make(task) == "failed"
    assert isinstance(bench.failure(task), Unavailable)


def test_a_slow_server_holds_up_no_other_scene(bench: Bench, tmp_path: Path) -> None:
    near = bench.task(str(write_tif(tmp_path / "a.tif", noise(70, 70))))
    with image_server() as server:
        server.files["/far.tif"] = (tmp_path / "a.tif").read_bytes(), '"1"'
        far = bench.task(f"{server.url}/far.tif")
        server.silent = True
        asked = len(server.requests)
        outcome: list[str] = []
        bench.want(far.key)
        thread = threading.Thread(target=lambda: outcome.append(bench.maker.make(far)))
        thread.start()
        while len(server.requests) == asked:
            threading.Event().wait(0.005)
        assert bench.make(near) == "made"
        assert outcome == []  # the far one waits still
        thread.join()
    assert outcome == ["failed"]
    assert isinstance(bench.failure(far), SceneTooSlow)


def test_every_end_is_published(bench: Bench, tmp_path: Path) -> None:
    tasks = [
        bench.task(str(write_tif(tmp_path / "a.tif", noise(70, 70)))),
        bench.task(str(tmp_path / "a.tif"), row=9),
    ]
    with bench.servers.cache.pubsub(ignore_subscribe_messages=True) as subscriber:
        subscriber.subscribe(DONE_CHANNEL)
        subscriber.get_message(timeout=1)
        for task in tasks:
            bench.make(task)
        heard = [subscriber.get_message(timeout=1)["data"].decode() for _ in tasks]
    assert heard == [task.key.text for task in tasks]
