"""ONNX files that ONNX Runtime loads and runs, and those it must not serve."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from landcover.catalog import demo_model_path
from landcover.contract import read_model
from landcover.demo import draw
from landcover.errors import InvalidConfiguration, InvalidModel
from landcover.settings import CatalogSettings
from landcover_worker.networks import Networks
from landcover_worker.runtimes.choice import load_runtime
from landcover_worker.runtimes.onnx_cpu import CPU
from landcover_worker.runtimes.onnx_gpu import CUDA, TENSORRT, OnnxGpu, padded_size, pin, providers_for
from landcover_worker.session import Session
from landcover_worker.settings import WorkerSettings
from onnx_models import expected_classes, pixel_contract, write_pixel_model
from rasters import noise

ON_CPU = WorkerSettings(device="cpu", cpu_threads=1)
CONTRACT = pixel_contract("pixels", window_px=64, halo_px=0)


def session_of(path: Path, settings: WorkerSettings = ON_CPU) -> Session:
    return Session(read_model(path), settings)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_map_is_the_models(tmp_path: Path, count: int) -> None:
    session = session_of(write_pixel_model(tmp_path / "a.onnx", CONTRACT))
    session.warm_up()
    images = np.stack([noise(64, 64, seed=i) for i in range(count)])
    classes, confidence = session.run(list(images))
    assert np.array_equal(classes, expected_classes(images))
    assert np.array_equal(confidence, images[..., 1])
    assert (session.provider, session.max_batch) == (CPU, 1)


def test_the_shipped_model_maps_the_same_in_a_batch_and_alone() -> None:
    session = session_of(demo_model_path())
    image, _ = draw(3, 256, 512)
    windows = np.stack([image[:, :256], image[:, 256:]])
    classes, confidence = session.run(list(windows))
    assert classes.shape == confidence.shape == (2, 256, 256)
    assert set(np.unique(classes)) <= {each.value for each in session.model.contract.classes}
    assert len(np.unique(classes)) > 1
    for i in range(2):
        alone, sure = session.run([windows[i]])
        assert (alone[0] == classes[i]).mean() > 0.9999
        assert np.abs(sure[0].astype(int) - confidence[i]).max() <= 1


def spoiled(tmp_path: Path, nodes: list[onnx.NodeProto], **constants: np.ndarray) -> Path:
    """A model of a good signature whose `classes` come from `nodes`."""
    model = onnx.load(str(write_pixel_model(tmp_path / "good.onnx", CONTRACT)))
    for node in list(model.graph.node):
        if node.output[0] == "classes":
            model.graph.node.remove(node)
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    path = tmp_path / "spoiled.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_values_that_are_no_class(tmp_path: Path) -> None:
    path = spoiled(tmp_path, [helper.make_node("Add", ["fast", "ten"], ["classes"])], ten=np.array(10, np.uint8))
    with pytest.raises(InvalidModel, match=r"returns the values \[11, .*18\], no class of its contract"):
        session_of(path).warm_up()


def test_outputs_of_another_size(tmp_path: Path) -> None:
    slicing = {"start": np.array([1], np.int64), "stop": np.array([63], np.int64), "axis": np.array([1], np.int64)}
    path = spoiled(tmp_path, [helper.make_node("Slice", ["fast", "start", "stop", "axis"], ["classes"])], **slicing)
    with pytest.raises(InvalidModel, match=r"outputs are \(1, 62, 64\)"):
        session_of(path).warm_up()


def test_a_batch_that_is_dynamic_only_by_name(tmp_path: Path) -> None:
    """The signature says any number, an inner reshape says one."""
    path = spoiled(
        tmp_path, [helper.make_node("Reshape", ["fast", "shape"], ["classes"])], shape=np.array([1, 64, 64], np.int64)
    )
    session_of(path).warm_up()
    with pytest.raises(InvalidModel, match=r"spoiled\.onnx fails on 2 × 64 × 64 px"):
        session_of(path, WorkerSettings(device="cpu", cpu_threads=1, max_batch=2)).warm_up()


def test_an_operator_that_does_not_exist(tmp_path: Path) -> None:
    path = spoiled(tmp_path, [helper.make_node("Nonsense", ["fast"], ["classes"])])
    with pytest.raises(InvalidModel, match="cannot be loaded"):
        session_of(path)


def test_what_runs_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_pixel_model(tmp_path / "a.onnx", CONTRACT).read_bytes()
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [CPU])
    assert load_runtime(data, CONTRACT, WorkerSettings()).provider == CPU
    with pytest.raises(InvalidConfiguration, match="no CUDA provider"):
        load_runtime(data, CONTRACT, WorkerSettings(device="cuda"))


def test_a_gpu_that_is_only_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_pixel_model(tmp_path / "a.onnx", CONTRACT).read_bytes()
    without_gpu(monkeypatch)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [CUDA, CPU])
    assert load_runtime(data, CONTRACT, WorkerSettings()).provider == CPU
    assert load_runtime(data, CONTRACT, WorkerSettings()).max_batch == 1
    with pytest.raises(InvalidConfiguration, match="fell back to the CPU"):
        load_runtime(data, CONTRACT, WorkerSettings(device="cuda"))


def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime drops a provider that it cannot have; this build does not even know CUDA's name."""
    original = onnxruntime.InferenceSession

    def on_cpu(data: bytes, options: object, providers: list[object]) -> object:
        return original(data, options, providers=[CPU])

    monkeypatch.setattr("onnxruntime.preload_dlls", lambda: None)
    monkeypatch.setattr("onnxruntime.InferenceSession", on_cpu)


@pytest.mark.parametrize(
    ("max_batch", "sizes"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (6, [1, 2, 4, 4, 6, 6]), (8, [1, 2, 4, 4, 8, 8, 8, 8])],
)
def test_padded_sizes_never_exceed_the_batch(max_batch: int, sizes: list[int]) -> None:
    assert [padded_size(count, max_batch) for count in range(1, max_batch + 1)] == sizes


def test_on_a_gpu_every_run_has_a_size_that_is_warm(tmp_path: Path) -> None:
    data = write_pixel_model(tmp_path / "a.onnx", CONTRACT).read_bytes()
    runtime = OnnxGpu(data, WorkerSettings(max_batch=6))  # the CPU runs it
    assert (runtime.provider, runtime.engine) == (CPU, CPU)
    assert list(runtime.warm_sizes) == [1, 2, 4, 6]
    for count in range(1, 7):
        images = np.stack([noise(64, 64, seed=i) for i in range(count)])
        classes, confidence = runtime.run(list(images))
        assert np.array_equal(classes, expected_classes(images))
        assert np.array_equal(confidence, images[..., 1])
    assert [shape[0] for shape in runtime._buffers] == list(runtime.warm_sizes)


def test_what_came_of_a_run_on_a_gpu_stays_after_the_next(tmp_path: Path) -> None:
    """Though both used the same buffers."""
    runtime = OnnxGpu(write_pixel_model(tmp_path / "a.onnx", CONTRACT).read_bytes(), WorkerSettings(max_batch=4))
    images = [noise(64, 64, seed=i) for i in range(8)]
    answers = [runtime.run(images[:4]), runtime.run(images[4:7])]
    assert np.array_equal(np.concatenate([each[0] for each in answers]), expected_classes(np.stack(images[:7])))
    assert np.array_equal(np.concatenate([each[1] for each in answers]), np.stack(images[:7])[..., 1])


def test_on_a_gpu_windows_of_a_batch_have_one_size(tmp_path: Path) -> None:
    runtime = OnnxGpu(write_pixel_model(tmp_path / "a.onnx", CONTRACT).read_bytes(), WorkerSettings(max_batch=4))
    with pytest.raises(ValueError, match="same shape"):
        runtime.run([noise(64, 64), noise(32, 32)])
    assert np.array_equal(runtime.run([noise(32, 32)])[0][0], expected_classes(noise(32, 32)))


def test_tensorrt_builds_one_engine_for_all_sizes_of_batch(tmp_path: Path) -> None:
    data = write_pixel_model(tmp_path / "a.onnx", CONTRACT).read_bytes()
    assert [name for name, _ in providers_for(data, WorkerSettings(), 8)] == [CUDA, CPU]
    providers = providers_for(data, WorkerSettings(tensorrt=tmp_path, cuda_graphs=True), 8)
    assert [name for name, _ in providers] == [TENSORRT, CUDA, CPU]
    (_, tensorrt), (_, cuda), _ = providers
    assert tensorrt["trt_engine_cache_path"] == str(tmp_path)
    shapes = [tensorrt[f"trt_profile_{each}_shapes"] for each in ("min", "opt", "max")]
    assert shapes == ["image:1x64x64x3", "image:8x64x64x3", "image:8x64x64x3"]
    assert (cuda["enable_cuda_graph"], tensorrt["trt_cuda_graph_enable"]) == ("1", "1")


def test_memory_is_pinned_by_cudas_runtime_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []
    freed: list[int] = []

    class Register:
        argtypes: tuple[object, ...] = ()

        def __call__(self, *arguments: int) -> int:
            asked.append(arguments)
            return len(asked) - 1  # 0 is success

    class Unregister:
        argtypes: tuple[object, ...] = ()

        def __call__(self, address: int) -> None:
            freed.append(address)

    register, memory = Register(), np.zeros(10, np.uint8)
    assert not pin(memory)
    library = SimpleNamespace(cudaHostRegister=register, cudaHostUnregister=Unregister())
    monkeypatch.setattr("ctypes.CDLL", lambda name: library)
    assert [pin(memory), pin(memory)] == [True, False]
    address = memory.ctypes.data
    assert asked == [(address, 10, 0)] * 2
    assert not freed
    del memory
    assert freed == [address]


def test_a_file_that_is_replaced_after_its_check_is_not_served(tmp_path: Path) -> None:
    model = read_model(write_pixel_model(tmp_path / "a.onnx", CONTRACT))
    write_pixel_model(tmp_path / "a.onnx", pixel_contract("another", window_px=64, halo_px=0))
    with pytest.raises(InvalidModel, match=r"a\.onnx was replaced after it was checked"):
        Session(model, ON_CPU)
    model.path.unlink()
    with pytest.raises(InvalidModel, match=r"a\.onnx cannot be read"):
        Session(model, ON_CPU)


def test_networks_are_those_of_the_start(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_pixel_model(tmp_path / f"{name}.onnx", pixel_contract(name, window_px=64, halo_px=0))
    networks = Networks(CatalogSettings(models=(str(tmp_path),)), ON_CPU)
    assert {each.model.name for each in networks.loaded.values()} == {"one", "two"}
    later = read_model(write_pixel_model(tmp_path / "z.onnx", CONTRACT))
    assert networks.loaded.get(later.digest) is None
    image = noise(64, 64)
    for network in networks.loaded.values():
        assert np.array_equal(network.infer(image)[0], expected_classes(image))
    networks.close()
