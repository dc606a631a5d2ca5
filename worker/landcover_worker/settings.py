"""Settings of a worker process, from `LANDCOVER_WORKER_*`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from landcover.queue import HARD_LIMIT_S
from landcover.settings import split_locations


def available_cpus() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkerSettings(BaseSettings):
    """How one worker process reads, batches and gives up."""

    model_config = SettingsConfigDict(env_prefix="LANDCOVER_WORKER_", extra="ignore")

    threads: Annotated[int, Field(ge=1, le=256)] | None = None
    """Blocks of each queue in hand at once: read, waiting for the network, or being stored. Default: 2 batches, at
    least 4."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes the GPU when ONNX Runtime can use one."""
    runtime: Literal["auto", "onnxruntime", "openvino"] = "auto"
    """What runs models on a CPU. `auto` takes OpenVINO for those it is faster for, if it is installed and agrees with
    ONNX Runtime: models of 8 bits, and all where the CPU has instructions for bf16."""
    tensorrt: Path | None = None
    """A folder for TensorRT's engines: TensorRT then runs models on the GPU. Building one takes minutes, once."""
    cuda_graphs: bool = False
    """Whether the GPU's kernels are started as one captured graph for each size of batch, not one by one."""
    max_batch: Annotated[int, Field(ge=1, le=256)] | None = None
    """Windows in one run of the network. Default: 8 on a GPU, 1 on a CPU, where batching was measured to lose."""
    cpu_threads: Annotated[int, Field(ge=1)] | None = None
    """The runtime's threads for one operator, on a CPU. Default: all cores."""
    queues: Annotated[tuple[Literal["interactive", "bulk"], ...], NoDecode, Field(min_length=1)] = (
        "interactive",
        "bulk",
    )
    """Which queues it takes tasks from: a JSON list, or words separated by blanks or commas."""
    hard_limit_s: Annotated[float, Field(gt=0)] = HARD_LIMIT_S
    """One read or one run of the network for longer ends the process: a hung one cannot be stopped otherwise."""
    max_attempts: Annotated[int, Field(ge=1)] = 3
    """A block that was begun so often without an end is set aside as a dead letter."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port of `/metrics`, `/healthz` and `/readyz`; 0 for none."""
    metrics_host: str = "0.0.0.0"
    """Address on which that port is listened to: those who scrape and probe are on other machines. `::` for IPv6."""

    _split = field_validator("queues", mode="before")(split_locations)
