"""From torch to ONNX: the fused graph's arithmetic, parity, strict checkpoints, and the shipped model."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from landcover.classes import OPENEARTHMAP
from landcover.cli import main
from landcover.contract import Contract, GsdRange, read_model
from landcover.demo import draw
from landcover.errors import InvalidConfiguration
from landcover_export.checkpoints import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from landcover_export.evaluation.evaluate import evaluate_images
from landcover_export.evaluation.metrics import Accuracy
from landcover_export.evaluation.models import load_model, onnx_runner
from landcover_export.fused import ClassAndConfidence, FusedSegmentation
from landcover_export.labelled import LabelledImage, find_pairs
from landcover_export.networks import (
    OPENEARTHMAP_B4,
    NetworkConfig,
    build_network,
    classes_of,
)
from landcover_export.onnx_export import ParityError, export_onnx, sample_windows, with_static_padding
from landcover_export.starts import load_start

DUBAI = Path(__file__).parents[2].parent / "shared" / "data" / "dubai"
SHIPPED = Path(str(files("landcover") / "models" / "landcover-demo.onnx"))
SMALL = NetworkConfig(decoder_channels=(16, 16, 8, 8, 8))


@pytest.fixture(scope="module")
def small_network() -> nn.Module:
    torch.manual_seed(0)
    return build_network(SMALL).eval()


@pytest.fixture(scope="module")
def windows() -> np.ndarray:
    image, _ = draw(11, 512, 512)
    return np.stack([image[:256, :256], image[256:, 256:]])


def contract(config: NetworkConfig) -> Contract:
    return Contract(
        name="under-test",
        version="1",
        classes=classes_of(config),
        gsd=GsdRange(min_m=0.4, max_m=1.2),
        window_px=256,
        halo_px=64,
    )


@pytest.mark.parametrize(
    "channel_values", [(1, 2, 3), (0, 1, 2), (7, 2, 5), (4, 0, 6)], ids=["all", "no background", "order", "gap"]
)
def test_head_against_numpy(channel_values: tuple[int, ...]) -> None:
    logits = np.random.default_rng(0).normal(0, 2, (2, 3, 5, 4)).astype(np.float32)
    classes, confidence = ClassAndConfidence(channel_values)(torch.from_numpy(logits))

    kept = [channel for channel, value in enumerate(channel_values) if value]
    exponentials = np.exp(logits[:, kept].astype(np.float64))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    expected = np.array(channel_values)[kept][probabilities.argmax(axis=1)]
    np.testing.assert_array_equal(classes.numpy(), expected)
    np.testing.assert_allclose(confidence.numpy(), 255 * probabilities.max(axis=1), atol=0.5001)
    assert classes.dtype == confidence.dtype == torch.uint8
    assert (classes != 0).all()


def test_head_by_hand() -> None:
    """Logits ln 3, ln 1: probabilities 3/4 and 1/4, confidence 191.25; equal logits: one half, 127.5."""
    logits = torch.tensor([[np.log(3.0), 0.0], [0.0, 0.0]]).reshape(1, 2, 1, 2)
    classes, confidence = ClassAndConfidence((1, 8))(logits)
    assert classes.flatten().tolist() == [1, 1]
    assert confidence.flatten().tolist() == [191, 128]


def test_large_logits_do_not_overflow() -> None:
    logits = torch.tensor([1000.0, -1000.0]).reshape(1, 2, 1, 1)
    classes, confidence = ClassAndConfidence((3, 4))(logits)
    assert (classes.item(), confidence.item()) == (3, 255)


def test_normalisation() -> None:
    config = NetworkConfig(channel_values=(1, 2, 3), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.2))
    fused = FusedSegmentation(nn.Identity(), config)
    image = torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8)
    normalised = fused.normalised(image)
    assert normalised.shape == (1, 3, 1, 1)
    np.testing.assert_allclose(normalised.flatten(), [-0.2, 0.0, 3.5], atol=1e-6)


def test_static_padding_changes_nothing(small_network: nn.Module) -> None:
    image = torch.rand(1, 3, 96, 160)
    with torch.inference_mode():
        torch.testing.assert_close(with_static_padding(small_network)(image), small_network(image))


def test_export_keeps_parity_and_contract(small_network: nn.Module, windows: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    parity = export_onnx(small_network, SMALL, contract(SMALL), path, windows)
    assert parity.equal_share >= 0.999
    assert parity.max_confidence_difference <= 2
    model = read_model(path)
    assert model.contract == contract(SMALL)
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]

    # Other batch sizes, heights and widths than the traced ones.
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image = np.ascontiguousarray(windows[:, :96, :160])
    classes, confidence = session.run(["classes", "confidence"], {"image": image})
    with torch.inference_mode():
        expected, _ = FusedSegmentation(small_network, SMALL)(torch.from_numpy(image))
    assert classes.shape == confidence.shape == (2, 96, 160)
    assert (classes == expected.numpy()).mean() >= 0.999


def test_openearthmap_b4_exports(windows: np.ndarray, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_network(OPENEARTHMAP_B4).eval()
    path = tmp_path / "b4.onnx"
    parity = export_onnx(network, OPENEARTHMAP_B4, contract(OPENEARTHMAP_B4), path, windows)
    assert parity.holds
    assert read_model(path).contract.classes == OPENEARTHMAP
    classes, _ = onnx_runner(path)(windows[0])
    assert classes.min() >= 1  # the background channel is never predicted


class _OtherWhenTraced(nn.Module):
    """Negates its logits while it is exported: a graph that does not compute what the network does."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.convolution(image)
        return -logits if torch.jit.is_tracing() else logits


def test_graph_that_differs_leaves_no_file(windows: np.ndarray, tmp_path: Path) -> None:
    config = NetworkConfig(channel_values=(1, 2))
    with pytest.raises(ParityError, match="differs from torch"):
        export_onnx(_OtherWhenTraced().eval(), config, contract(config), tmp_path / "model.onnx", windows)
    assert list(tmp_path.iterdir()) == []


def test_failed_export_keeps_the_older_file(windows: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"older")
    config = NetworkConfig(channel_values=(1, 2))
    with pytest.raises(ParityError):
        export_onnx(_OtherWhenTraced().eval(), config, contract(config), path, windows)
    assert path.read_bytes() == b"older"


@pytest.mark.parametrize(("prefix", "key"), [("", None), ("module.", "state_dict")])
def test_bare_state_dict(small_network: nn.Module, tmp_path: Path, prefix: str, key: str | None) -> None:
    path = tmp_path / "published.pth"
    tensors = {prefix + name: value for name, value in small_network.state_dict().items()}
    torch.save({key: tensors} if key else tensors, path)
    loaded = load_checkpoint(path, SMALL)
    for name, value in small_network.state_dict().items():
        torch.testing.assert_close(loaded.network.state_dict()[name], value)


def test_our_checkpoint_comes_back_whole(small_network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "ours.pt"
    metrics = Accuracy(confusion=np.eye(8, dtype=np.int64)).as_metrics("a test")
    save_checkpoint(
        Checkpoint(
            config=SMALL, classes=OPENEARTHMAP, network=small_network, training_data=("one", "two"), metrics=metrics
        ),
        path,
    )
    loaded = load_checkpoint(path)
    assert loaded.config == SMALL
    assert loaded.training_data == ("one", "two")
    assert loaded.metrics == metrics
    assert not loaded.network.training


def test_checkpoint_of_another_network(small_network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(small_network.state_dict(), path)
    with pytest.raises(CheckpointError, match="another shape"):
        load_checkpoint(path, NetworkConfig())
    with pytest.raises(CheckpointError, match="missing"):
        load_checkpoint(path, OPENEARTHMAP_B4)
    with pytest.raises(CheckpointError, match="does not say of which network"):
        load_checkpoint(path)


def test_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "notes.pth"
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        load_checkpoint(path)
    path.write_text("not tensors")
    with pytest.raises(CheckpointError, match="is no checkpoint of tensors"):
        load_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="holds a list"):
        load_checkpoint(path)


def test_imagenet_start_changes_the_encoder_only() -> None:
    torch.manual_seed(0)
    network = build_network(SMALL)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    load_start(network, SMALL, "imagenet")
    changed = {name.split(".")[0] for name, value in network.state_dict().items() if not value.equal(before[name])}
    assert changed == {"encoder"}


def test_weights_that_do_not_fit_or_cannot_be_had(tmp_path: Path) -> None:
    network = build_network(SMALL)
    with pytest.raises(InvalidConfiguration, match="neither imagenet nor random nor a file"):
        load_start(network, SMALL, str(tmp_path / "absent.pt"))
    other = tmp_path / "encoder.pt"
    torch.save({"stem.weight": torch.zeros(3)}, other)
    with pytest.raises(InvalidConfiguration, match="does not fit the encoder"):
        load_start(network, SMALL, str(other))
    (tmp_path / "notes.pt").write_text("no tensors")
    with pytest.raises(InvalidConfiguration, match="holds no tensors"):
        load_start(network, SMALL, str(tmp_path / "notes.pt"))


def test_an_encoders_state_dict_is_a_start(small_network: nn.Module, tmp_path: Path) -> None:
    encoder = {name: value for name, value in small_network.state_dict().items() if name.startswith("encoder.")}
    path = tmp_path / "encoder.pt"
    torch.save(encoder, path)
    network = build_network(SMALL)
    load_start(network, SMALL, str(path))
    for name, value in encoder.items():
        torch.testing.assert_close(network.state_dict()[name], value)


@pytest.mark.parametrize("config", [SMALL, OPENEARTHMAP_B4], ids=["lite0", "b4"])
def test_what_is_served_can_be_trained_on(config: NetworkConfig, windows: np.ndarray, tmp_path: Path) -> None:
    """The network that is rebuilt from the ONNX file's initializers computes the same, bit by bit."""
    torch.manual_seed(1)
    network = build_network(config).eval()
    path = tmp_path / "model.onnx"
    export_onnx(network, config, contract(config), path, windows[:1, :128, :128])
    loaded = load_checkpoint(path)
    assert loaded.config == config
    assert loaded.classes == contract(config).classes
    assert loaded.gsd == contract(config).gsd
    image = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        assert torch.equal(loaded.network(image), network(image))
    with pytest.raises(CheckpointError, match="is of another network"):
        load_checkpoint(path, NetworkConfig(decoder_channels=(8, 8, 8, 8, 8)))


def test_a_model_without_its_network_cannot_be_trained(pixel_model: Path) -> None:
    with pytest.raises(CheckpointError, match="can be run but not trained"):
        load_checkpoint(pixel_model)


def test_half_precision(windows: np.ndarray, tmp_path: Path) -> None:
    """Of trained weights: random ones leave every pixel near a tie."""
    shipped = load_checkpoint(SHIPPED)
    wanted = contract(shipped.config).model_copy(update={"precision": "fp16"})
    path = tmp_path / "half.onnx"
    parity = export_onnx(shipped.network, shipped.config, wanted, path, windows)
    assert parity.precision == "fp16"
    assert parity.equal_share >= 0.995
    assert read_model(path).contract.precision == "fp16"
    assert path.stat().st_size < 0.6 * SHIPPED.stat().st_size
    assert all(value.dtype == torch.float32 for value in shipped.network.parameters())  # the network itself is kept


def test_unknown_encoder_is_refused() -> None:
    with pytest.raises(InvalidConfiguration, match="no-such-encoder"):
        build_network(NetworkConfig(encoder="no-such-encoder"))


def test_windows_for_the_check(tmp_path: Path) -> None:
    assert sample_windows(None, 64).shape == (4, 64, 64, 3)
    with pytest.raises(InvalidConfiguration, match="cannot be read"):
        sample_windows(tmp_path / "absent.tif", 64)


def test_command_line(small_network: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, out = tmp_path / "ours.pt", tmp_path / "ours.onnx"
    save_checkpoint(
        Checkpoint(config=SMALL, classes=OPENEARTHMAP, network=small_network, training_data=("drawn",)), checkpoint
    )
    options = ["--name", "mine", "--gsd", "0.3", "0.6", "--window", "256", "--halo", "64"]
    assert main(["export", str(checkpoint), "--out", str(out), *options]) == 0
    written = read_model(out).contract
    assert (written.name, written.gsd.min_m, written.training_data) == ("mine", 0.3, ("drawn",))
    assert "have the same class" in capsys.readouterr().out

    assert main(["export", str(checkpoint), "--out", str(out), "--window", "300"]) == 1
    assert "multiple of 32" in capsys.readouterr().err
    assert main(["export", "--random", "--out", str(out)]) == 1
    assert "Say which network" in capsys.readouterr().err


def test_shipped_model_maps_a_scene_it_has_not_seen() -> None:
    assert SHIPPED.stat().st_size <= 15e6
    model = load_model(SHIPPED, window_px=0, halo_px=0)
    assert model.classes == OPENEARTHMAP
    image, label = draw(901, 1024, 1024)
    scene = LabelledImage(name="unseen", image=image, label=label)
    accuracy = Accuracy(confusion=evaluate_images(model, [scene]))
    assert accuracy.overall > 0.85
    assert accuracy.mean_iou > 0.65


@pytest.mark.skipif(not DUBAI.is_dir(), reason="needs the CC0 tiles in ../shared/data/dubai")
def test_shipped_model_on_real_tiles() -> None:
    model = load_model(SHIPPED, window_px=0, halo_px=0)
    accuracy = Accuracy(
        confusion=evaluate_images(model, [each.read() for each in find_pairs(DUBAI, groups=["tile3"])[::4]])
    )
    assert accuracy.overall > 0.7  # 0.801 on both held-out scenes
