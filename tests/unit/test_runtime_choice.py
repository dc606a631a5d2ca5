"""Which runtime a CPU gives a model, and that OpenVINO answers as ONNX Runtime does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from landcover.catalog import demo_model_path
from landcover.contract import Contract, read_model
from landcover.demo import draw
from landcover.errors import InvalidConfiguration
from landcover_worker.runtimes import choice
from landcover_worker.runtimes.base import UInt8Array
from landcover_worker.runtimes.choice import equal_share, load_runtime
from landcover_worker.runtimes.onnx_cpu import CPU, OnnxCpu
from landcover_worker.runtimes.openvino import OPENVINO, OpenVino, has_native_bf16
from landcover_worker.session import Session
from landcover_worker.settings import WorkerSettings
from onnx_models import expected_classes, pixel_contract, write_pixel_model
from rasters import noise

ON_CPU = WorkerSettings(device="cpu", runtime="auto", cpu_threads=1)
CONTRACT = pixel_contract("pixels", window_px=64, halo_px=0)
OF_8_BITS = CONTRACT.model_copy(update={"precision": "int8"})


def pixels(folder: Path, contract: Contract = CONTRACT) -> bytes:
    return write_pixel_model(folder / "a.onnx", contract).read_bytes()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_map_is_the_models(tmp_path: Path, count: int) -> None:
    settings = ON_CPU.model_copy(update={"runtime": "openvino", "max_batch": 3})
    session = Session(read_model(write_pixel_model(tmp_path / "a.onnx", CONTRACT)), settings)
    session.warm_up()
    assert (session.provider, session.max_batch) == (OPENVINO, 3)
    images = np.stack([noise(64, 64, seed=i) for i in range(count)])
    classes, confidence = session.run(list(images))
    assert np.array_equal(classes, expected_classes(images))
    assert np.array_equal(confidence, images[..., 1])


def test_an_answer_is_the_callers_own(tmp_path: Path) -> None:
    runtime = OpenVino(pixels(tmp_path), ON_CPU)
    first, second = noise(64, 64, seed=1), noise(64, 64, seed=2)
    classes, confidence = runtime.run([first])
    runtime.run([second])
    assert np.array_equal(classes[0], expected_classes(first))
    assert np.array_equal(confidence[0], first[..., 1])


def test_the_shipped_model_maps_the_same_in_both() -> None:
    data = demo_model_path().read_bytes()
    window, _ = draw(3, 256, 512)
    ours, theirs = OpenVino(data, ON_CPU).run([window]), OnnxCpu(data, ON_CPU).run([window])
    assert len(np.unique(theirs[0])) > 3
    assert (ours[0] == theirs[0]).mean() > 0.999
    if not has_native_bf16():
        assert np.abs(ours[1].astype(int) - theirs[1]).max() <= 1


@pytest.mark.parametrize(("bf16", "provider"), [(True, OPENVINO), (False, CPU)])
def test_32_bits_run_in_openvino_where_the_cpu_has_bf16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool, provider: str
) -> None:
    monkeypatch.setattr(choice, "has_native_bf16", lambda: bf16)
    assert load_runtime(pixels(tmp_path), CONTRACT, ON_CPU).provider == provider


def test_8_bits_run_in_openvino_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "has_native_bf16", lambda: False)
    data = pixels(tmp_path, OF_8_BITS)
    assert load_runtime(data, OF_8_BITS, ON_CPU).provider == OPENVINO
    plain = ON_CPU.model_copy(update={"runtime": "onnxruntime"})
    assert load_runtime(data, OF_8_BITS, plain).provider == CPU


class Wrong(OpenVino):
    """Another class for every fortieth pixel."""

    def run(self, windows: list[UInt8Array]) -> tuple[UInt8Array, UInt8Array]:
        classes, confidence = super().run(windows)
        classes.reshape(-1)[::40] ^= 1
        return classes, confidence


class Broken(OpenVino):
    def run(self, windows: list[UInt8Array]) -> tuple[UInt8Array, UInt8Array]:
        raise RuntimeError("no such kernel")


@pytest.mark.parametrize(
    ("openvino", "reason"),
    [(Wrong, "OpenVINO gives 97.49 % of the pixels the class"), (Broken, "OpenVINO cannot run pixels.*no such kernel")],
)
def test_what_answers_otherwise_or_not_at_all_is_not_taken(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    openvino: type[OpenVino],
    reason: str,
) -> None:
    monkeypatch.setattr(choice, "OpenVino", openvino)
    assert load_runtime(pixels(tmp_path, OF_8_BITS), OF_8_BITS, ON_CPU).provider == CPU
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    assert re.search(reason, caplog.text)


def test_the_share_is_of_pixels(tmp_path: Path) -> None:
    data = pixels(tmp_path)
    assert equal_share(OpenVino(data, ON_CPU), OnnxCpu(data, ON_CPU), 64) == 1
    assert equal_share(Wrong(data, ON_CPU), OnnxCpu(data, ON_CPU), 64) == 1 - 103 / 4096


def test_openvino_that_cannot_be_loaded_harms_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> bool:
        raise ImportError("libtbb.so.12: cannot open shared object file")

    class Unloadable(OpenVino):
        def __init__(self, *_: object) -> None:
            fails()

    monkeypatch.setattr(choice, "has_native_bf16", fails)
    monkeypatch.setattr(choice, "OpenVino", Unloadable)
    assert load_runtime(pixels(tmp_path), CONTRACT, ON_CPU).provider == CPU
    demanded = ON_CPU.model_copy(update={"runtime": "openvino"})
    with pytest.raises(InvalidConfiguration, match="OpenVINO is installed, but cannot be loaded: libtbb"):
        load_runtime(pixels(tmp_path), CONTRACT, demanded)


def test_openvino_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert load_runtime(pixels(tmp_path, OF_8_BITS), OF_8_BITS, ON_CPU).provider == CPU
    demanded = ON_CPU.model_copy(update={"runtime": "openvino"})
    with pytest.raises(InvalidConfiguration, match=r"not installed; install `landcover-tiles\[openvino\]`"):
        load_runtime(pixels(tmp_path), CONTRACT, demanded)


def test_openvino_reports_to_nobody(tmp_path: Path) -> None:
    program = (
        "import sys; from landcover_worker.runtimes.openvino import has_native_bf16; has_native_bf16(); "
        "sys.exit(any('telemetry' in name for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={"HOME": str(tmp_path), "PATH": ""})
    assert not list(tmp_path.iterdir())
