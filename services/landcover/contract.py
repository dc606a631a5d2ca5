"""The contract written into an ONNX file's metadata: what a model takes, what it returns, what it was trained on.

Written by `landcover export`, read by the API (classes, colours, window) and checked by the worker before it
serves. Only the file's own bytes are read here; no runtime is loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import onnx
from google.protobuf.message import DecodeError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from landcover.classes import LandCoverClass
from landcover.errors import InvalidModel

METADATA_KEY = "landcover"
"""The key of `metadata_props` that holds the contract as one JSON document."""

STRIDE_PX = 32
"""Five halvings in the encoder: windows are multiples of this. ONNX Runtime accepts others without a word."""

ALLOWED_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
"""Operator sets every ONNX runtime has; anything else is a custom operator and is refused."""


class GsdRange(BaseModel):
    """Ground sample distances, in metres per pixel, that a model was trained for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_m: Annotated[float, Field(gt=0)]
    max_m: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _ordered(self) -> GsdRange:
        if self.min_m > self.max_m:
            raise ValueError(f"min_m {self.min_m} is larger than max_m {self.max_m}")
        return self


Share = Annotated[float, Field(ge=0, le=1)]
Interval = tuple[Share, Share]
"""Lower and upper bound of a 95 % interval."""


class ClassMetrics(BaseModel):
    """How well one class is mapped; None where that is not defined, all four if the reference lacks the class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recall: Share | None = None
    """Producer's accuracy."""
    precision: Share | None = None
    """User's accuracy."""
    f1: Share | None = None
    iou: Share | None = None


class DesignEffects(BaseModel):
    """How much the errors within one place go together; `landcover.statistics.adjusted` says how it is used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    place_px: Annotated[float, Field(gt=1)]
    """Size of the places: mean labelled pixels of the windows it was measured in, weighted by themselves."""
    classes: tuple[Annotated[float, Field(ge=1)], ...]
    """Variance of a place's true pixels of each class about what its map and the confusion matrix let expect, over
    that of independent pixels; in the order of the contract's classes."""


class Metrics(BaseModel):
    """How good a model is, and on what that was measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    overall_accuracy: Annotated[float, Field(ge=0, le=1)]
    average_accuracy: Annotated[float, Field(ge=0, le=1)]
    """Mean recall over the classes present in the reference."""
    mean_iou: Annotated[float, Field(ge=0, le=1)]
    confusion_matrix: tuple[tuple[int, ...], ...]
    """`[reference][predicted]` pixels, in the order of the contract's classes."""
    classes: tuple[ClassMetrics, ...] = ()
    """In the order of the contract's classes; empty in files written before this was kept, as are the next four."""
    overall_accuracy_interval: Interval | None = None
    average_accuracy_interval: Interval | None = None
    mean_iou_interval: Interval | None = None
    windows: Annotated[int, Field(ge=1)] | None = None
    """The sample's size: so many windows were resampled for the intervals."""
    design_effects: tuple[DesignEffects, ...] = ()
    """By growing size of place, for the intervals of adjusted areas; empty where it was not measured."""

    @model_validator(mode="after")
    def _ascending(self) -> Metrics:
        sizes = [each.place_px for each in self.design_effects]
        if sizes != sorted(set(sizes)):
            raise ValueError("the design effects are not ordered by size of place")
        return self


class AnnotationsUsed(BaseModel):
    """What people drew for a fine-tuned model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    """`sha256:…` over the annotations' geometries and classes: the same drawings have the same digest."""
    polygons: Annotated[int, Field(ge=1)]
    area_m2: Annotated[float, Field(gt=0)]
    """Labelled ground."""
    scenes: tuple[str, ...]
    authors: tuple[str, ...] = ()


class Contract(BaseModel):
    """What a model promises. Axis order is `[N, H, W, 3]` in, `[N, H, W]` out, all uint8."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    contract_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    version: Annotated[str, Field(min_length=1)]
    description: str = ""
    classes: Annotated[tuple[LandCoverClass, ...], Field(min_length=1, max_length=254)]
    gsd: GsdRange
    window_px: Annotated[int, Field(ge=STRIDE_PX, le=4096, multiple_of=STRIDE_PX)]
    """Side of the square window the network sees: the block and its halo."""
    halo_px: Annotated[int, Field(ge=0)]
    """Context read around a block and cropped from the output."""
    architecture: str = ""
    parent_digest: str | None = None
    """`sha256:…` of the model this one was fine-tuned from."""
    annotations: AnnotationsUsed | None = None
    """What it was fine-tuned with."""
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """Of the weights, and of the arithmetic where the runtime has it."""
    training_data: tuple[str, ...] = ()
    metrics: Metrics | None = None
    license: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Contract:
        values = [each.value for each in self.classes]
        names = [each.name for each in self.classes]
        if len(set(values)) != len(values) or len(set(names)) != len(names):
            raise ValueError("two classes share a value or a name")
        block = self.window_px - 2 * self.halo_px
        if block <= 0 or block & (block - 1):
            raise ValueError(
                f"window_px {self.window_px} less two halos of {self.halo_px} leaves a block of {block} px; "
                "it must be a power of two, so that majority overviews halve evenly"
            )
        if self.metrics and (
            len(self.metrics.confusion_matrix) != len(self.classes)
            or any(len(row) != len(self.classes) for row in self.metrics.confusion_matrix)
        ):
            raise ValueError("the confusion matrix is not classes × classes")
        if self.metrics and len(self.metrics.classes) not in (0, len(self.classes)):
            raise ValueError("the metrics have not one entry for each class")
        if self.metrics and any(len(each.classes) != len(self.classes) for each in self.metrics.design_effects):
            raise ValueError("the metrics have not one design effect for each class")
        return self

    @property
    def block_px(self) -> int:
        """Side of a block: the window less its halo."""
        return self.window_px - 2 * self.halo_px

    @property
    def max_value(self) -> int:
        """The largest pixel value a class map of this model can hold."""
        return max(each.value for each in self.classes)

    def metadata_props(self) -> dict[str, str]:
        """`metadata_props` of the ONNX file: our document, and the keys the QGIS plugin Deepness reads."""
        overlap = round(100 * 2 * self.halo_px / self.window_px)
        return {
            METADATA_KEY: self.model_dump_json(),
            "model_type": json.dumps("Segmentor"),
            "class_names": json.dumps({"0": "unknown"} | {str(c.value): c.name for c in self.classes}),
            "resolution": json.dumps(round(100 * self.gsd.min_m, 3)),  # Deepness: centimetres per pixel
            "tiles_size": json.dumps(self.window_px),
            "tiles_overlap": json.dumps(overlap),
        }


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """An ONNX file that keeps its contract."""

    path: Path
    digest: str
    """`sha256:` and 64 hexadecimal digits: the model's identity everywhere."""
    contract: Contract

    @property
    def name(self) -> str:
        """The contract's name, by which requests ask for the model."""
        return self.contract.name


def digest_of(data: bytes) -> str:
    """`sha256:…` of a file's bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def read_model(path: Path, *, expected_digest: str | None = None) -> ModelFile:
    """Read and check the ONNX file at `path`.

    Raises:
        InvalidModel: with a sentence for whatever is wrong; all faults are named at once.
    """
    if not path.is_file():
        raise InvalidModel(f"There is no model file at {path}.")
    try:
        data = path.read_bytes()  # once: what is hashed is what is checked
    except OSError as error:
        raise InvalidModel(f"{path} cannot be read ({error.strerror or error}).") from error
    digest = digest_of(data)
    if expected_digest and digest != expected_digest:
        raise InvalidModel(f"{path} has the digest {digest}, but {expected_digest} was expected.")
    try:
        proto = onnx.load_from_string(data)
    except (DecodeError, ValueError) as error:
        raise InvalidModel(f"{path} is no ONNX file ({error}).") from error
    contract = parse_metadata({prop.key: prop.value for prop in proto.metadata_props}, source=str(path))
    if faults := graph_faults(proto.graph, proto.opset_import, contract):
        raise InvalidModel(f"{path} does not keep its contract: " + "; ".join(faults) + ".")
    return ModelFile(path=path, digest=digest, contract=contract)


def parse_metadata(metadata: Mapping[str, str], *, source: str) -> Contract:
    """The contract in an ONNX file's `metadata_props`.

    Raises:
        InvalidModel: there is none, or it is not valid.
    """
    if METADATA_KEY not in metadata:
        raise InvalidModel(
            f"{source} carries no '{METADATA_KEY}' contract in its metadata; write it with `landcover export`."
        )
    try:
        return Contract.model_validate_json(metadata[METADATA_KEY])
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'contract'}: {fault['msg']}" for fault in error.errors()
        )
        raise InvalidModel(f"The contract in {source} is not valid: {faults}.") from error


def graph_faults(graph: Any, opsets: Any, contract: Contract) -> list[str]:
    """What contradicts the contract in an ONNX graph, a clause each; empty when nothing does."""
    faults = []
    custom = {each.domain for each in opsets} | {node.domain for node in _nodes(graph)}
    if custom := custom - ALLOWED_DOMAINS:
        faults.append(f"it uses custom operators ({', '.join(sorted(custom))})")
    external = onnx.TensorProto.EXTERNAL
    if any(tensor.data_location == external for tensor in _tensors(graph)):
        faults.append("its weights lie in another file; export them inside")
    inputs = {each.name: _signature(each) for each in graph.input}
    outputs = {each.name: _signature(each) for each in graph.output}
    faults += _mismatch("input", inputs, {"image": 4})
    faults += _mismatch("output", outputs, {"classes": 3, "confidence": 3})
    if "image" in inputs and len(shape := inputs["image"][1]) == 4:
        if shape[3] != 3:
            faults.append(f"input 'image' has {shape[3] or 'any number of'} channels in its last axis, not 3")
        if shape[0] is not None:
            faults.append(f"input 'image' has a fixed batch of {shape[0]}; make it dynamic")
        for axis, size in (("height", shape[1]), ("width", shape[2])):
            if size not in (None, contract.window_px):
                faults.append(f"its {axis} is fixed at {size} px, the contract's window is {contract.window_px}")
    return faults


def _nodes(graph: Any) -> Iterator[Any]:
    """Every node, also of the graphs inside `If`, `Loop` and `Scan`."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*attribute.graphs, attribute.g):
                yield from _nodes(inner)


def _tensors(graph: Any) -> Iterator[Any]:
    """Every stored tensor, also of constants and of the graphs inside nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (*attribute.tensors, attribute.t)
            for inner in (*attribute.graphs, attribute.g):
                yield from _tensors(inner)


def _signature(value: Any) -> tuple[int, list[int | None]]:
    """Element type and shape of a graph input or output; None for a dynamic axis."""
    tensor = value.type.tensor_type
    shape = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    return tensor.elem_type, shape


def _mismatch(kind: str, found: dict[str, tuple[int, list[int | None]]], expected: dict[str, int]) -> list[str]:
    faults = []
    if set(found) != set(expected):
        names = ", ".join(sorted(found)) or "none"
        faults.append(f"its {kind}s are {names}, not {' and '.join(expected)}")
    for name, rank in expected.items():
        if name in found:
            dtype, shape = found[name]
            if dtype != onnx.TensorProto.UINT8:
                faults.append(f"{kind} '{name}' is {onnx.TensorProto.DataType.Name(dtype).lower()}, not uint8")
            if len(shape) != rank:
                faults.append(f"{kind} '{name}' has {len(shape)} axes, not {rank}")
    return faults
