"""From a torch network to the ONNX file that serves it, checked against torch on real pixels.

The exporter is torch's TorchScript one, opset 17: it takes one or two seconds where the newer one (`dynamo=True`,
opset 20) took 15 s for EfficientNet-B4 on idle cores and minutes on busy ones, and ONNX Runtime runs both graphs
equally fast and within 2e-6 of torch. Opset 17 is read by every ONNX Runtime since 1.12.
"""

from __future__ import annotations

import copy
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from torch import nn

from landcover.atomic import atomic_path
from landcover.contract import Contract, read_model
from landcover.demo import DEMO_SEED, draw
from landcover.errors import InvalidConfiguration, LandcoverError
from landcover_export.checkpoints import NETWORK_KEY, tensors_of_onnx
from landcover_export.fused import FusedSegmentation
from landcover_export.networks import NetworkConfig

logger = logging.getLogger(__name__)

OPSET = 17

Precision = Literal["fp32", "fp16", "int8"]

BOUNDS: dict[Precision, tuple[float, int]] = {"fp32": (0.999, 2), "fp16": (0.995, 32), "int8": (0.97, 255)}
"""Least share of pixels whose class must be the same as at 32 bits, and the largest difference in confidence (0..255)
at any pixel. With eleven bits of mantissa pixels near a tie move. With eight in all more of them do; whether the map is
as good is for `landcover evaluate` to say."""


class ParityError(LandcoverError):
    """The exported graph does not compute what the network does."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far ONNX Runtime's output lies from torch's on the same pixels."""

    pixels: int
    equal_share: float
    """Pixels with the same class, 0..1."""
    max_confidence_difference: int
    """0..255."""
    precision: Precision = "fp32"

    @property
    def bounds(self) -> tuple[float, int]:
        """Least share of equal pixels and largest difference in confidence that are accepted."""
        return BOUNDS[self.precision]

    @property
    def holds(self) -> bool:
        """Whether both bounds are kept."""
        least, most = self.bounds
        return self.equal_share >= least and self.max_confidence_difference <= most


def export_onnx(
    network: nn.Module,
    config: NetworkConfig,
    contract: Contract,
    path: Path,
    images: npt.NDArray[np.uint8],
) -> Parity:
    """Write `network` and its `contract` to `path`, whole or not at all.

    Args:
        network: logits `[N, C, H, W]` from a normalised float image `[N, 3, H, W]`.
        config: how to normalise, and what each channel means.
        contract: goes into the file's metadata; its `precision` says how the weights are stored.
        path: the ONNX file.
        images: real pixels for the parity check, uint8 `[N, H, W, 3]`, sides multiples of 32.

    Raises:
        ParityError: the graph's output differs; no file is left behind.
        InvalidModel: the graph contradicts the contract; no file is left behind.
    """
    fused = FusedSegmentation(network, config).eval()
    stored = fused if contract.precision == "fp32" else FusedSegmentation(copy.deepcopy(network), config, half=True)
    with atomic_path(path) as temporary:
        _write(stored.eval(), config, contract, temporary)
        parity = measure_parity(fused, temporary, images, contract.precision)
        if not parity.holds:
            least, most = parity.bounds
            raise ParityError(
                f"The exported graph differs from torch: {parity.equal_share:.4%} of {parity.pixels} pixels have "
                f"the same class (at least {least:.1%} is needed), confidence differs by up to "
                f"{parity.max_confidence_difference} (at most {most})."
            )
        read_model(temporary)
    return parity


def sample_windows(image: Path | None, side_px: int, count: int = 4) -> npt.NDArray[np.uint8]:
    """Up to `count` windows of real pixels, uint8 `(windows, side, side, 3)`, along the diagonal of `image`.

    Without an image they come from a drawn scene.

    Raises:
        InvalidConfiguration: the image cannot be read as three bands of uint8, or is smaller than a window.
    """
    if image is None:
        side = max(1024, 2 * side_px)
        pixels, _ = draw(DEMO_SEED, side, side)
    else:
        try:
            with _plain_images_allowed(), rasterio.open(image) as dataset:
                if dataset.count < 3 or dataset.dtypes[0] != "uint8":
                    raise InvalidConfiguration(f"{image} has not three bands of uint8.")
                pixels = np.moveaxis(dataset.read((1, 2, 3)), 0, 2)
        except RasterioError as error:
            raise InvalidConfiguration(f"{image} cannot be read as an image: {error}") from error
    height, width = pixels.shape[:2]
    if min(height, width) < side_px:
        raise InvalidConfiguration(f"{image} is {width}×{height} px, smaller than a window of {side_px} px.")
    rows = np.linspace(0, height - side_px, count).astype(int)
    columns = np.linspace(0, width - side_px, count).astype(int)
    return np.stack([pixels[r : r + side_px, c : c + side_px] for r, c in zip(rows, columns, strict=True)])


def measure_parity(
    fused: nn.Module, path: Path, images: npt.NDArray[np.uint8], precision: Precision = "fp32"
) -> Parity:
    """Run `images`, uint8 `[N, H, W, 3]`, through torch at 32 bits and through the file, and compare."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def by_torch(image: npt.NDArray[np.uint8]) -> Answer:
        with torch.inference_mode():
            return [each.numpy() for each in fused(torch.from_numpy(image))]

    return compare(by_torch, lambda image: session.run(["classes", "confidence"], {"image": image}), images, precision)


@contextmanager
def _plain_images_allowed() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # pixels need no place
        yield


Answer = Sequence[npt.NDArray[np.uint8]]
"""Classes and confidence, `[1, H, W]` each."""


def compare(
    expected: Callable[[npt.NDArray[np.uint8]], Answer],
    answered: Callable[[npt.NDArray[np.uint8]], Answer],
    images: npt.NDArray[np.uint8],
    precision: Precision,
) -> Parity:
    """How far two lie apart that answer an image `[1, H, W, 3]`, over `images` `[N, H, W, 3]`."""
    equal = 0
    difference = 0
    for image in images:
        wanted, (classes, confidence) = expected(image[None]), answered(image[None])
        equal += int((classes == wanted[0]).sum())
        # Confidence is that of the winning class: near a tie both sides agree on it, whichever class won.
        difference = max(difference, int(np.abs(confidence.astype(int) - wanted[1].astype(int)).max()))
    pixels = int(np.prod(images.shape[:3]))
    return Parity(pixels=pixels, equal_share=equal / pixels, max_confidence_difference=difference, precision=precision)


def _write(fused: FusedSegmentation, config: NetworkConfig, contract: Contract, path: Path) -> None:
    """Trace, export with dynamic N, H and W, and add the contract to the metadata; weights stay inside.

    Batch normalisation is kept as layers (runtimes merge it into the convolutions when they load the file), so that
    the initializers are the network's state dict and the file can be trained on.
    """
    axes = {0: "N", 1: "H", 2: "W"}
    example = torch.zeros((1, contract.window_px, contract.window_px, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        # The exporter is deprecated in favour of dynamo=True, shape arithmetic of a network is traced as constants,
        # a reversed slice is not folded: all known, and the parity check tells when a constant was wrong.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)
        module = with_static_padding(fused)
        module.training = True  # of the outermost module only: else the exporter merges tensors of equal value
        torch.onnx.export(
            module,
            (example,),
            str(path),
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["classes", "confidence"],
            dynamic_axes={"image": axes, "classes": axes, "confidence": axes},
        )
    proto = onnx.load(str(path))
    proto.producer_name = "landcover-tiles"
    metadata = contract.metadata_props()
    if _holds_state(path, fused.network):
        metadata[NETWORK_KEY] = config.model_dump_json()
    else:
        logger.warning("the exported model can be run but not trained further: keep its checkpoint")
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, str(path))


def _holds_state(path: Path, network: nn.Module) -> bool:
    """Whether the network can be rebuilt from the file's initializers: it then computes the very same."""
    rebuilt = copy.deepcopy(network)
    blank = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
    rebuilt.load_state_dict(tensors_of_onnx(path, blank))
    example = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        example = example.to(next(network.parameters()).dtype)
        return torch.equal(rebuilt(example), network(example))


def with_static_padding(module: nn.Module) -> nn.Module:
    """A copy of `module` in which timm's TensorFlow-like 'SAME' convolutions pad by constants.

    They pad by `max(k - s, 0)` when the side is a multiple of the stride `s`, which all windows are (multiples of
    32). As constants the runtime merges them into the convolution; computed from the shape it cannot.
    """
    from timm.layers.conv2d_same import Conv2dSame

    module = copy.deepcopy(module)
    for name, convolution in list(module.named_modules()):
        if isinstance(convolution, Conv2dSame):
            module.set_submodule(name, _padded(convolution))
    return module


def _padded(convolution: nn.Conv2d) -> nn.Sequential:
    """Explicit zero padding, then the same convolution without any."""
    padding: list[int] = []
    for axis in (1, 0):  # ZeroPad2d takes left, right, top, bottom
        reach = convolution.dilation[axis] * (convolution.kernel_size[axis] - 1) + 1
        total = max(reach - convolution.stride[axis], 0)
        padding += [total // 2, math.ceil(total / 2)]
    plain = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        (convolution.kernel_size[0], convolution.kernel_size[1]),
        stride=(convolution.stride[0], convolution.stride[1]),
        dilation=(convolution.dilation[0], convolution.dilation[1]),
        groups=convolution.groups,
        bias=convolution.bias is not None,
        dtype=convolution.weight.dtype,
    )
    plain.load_state_dict(convolution.state_dict())
    left, right, top, bottom = padding
    return nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), plain)
