"""The models a worker serves, each loaded, warm and behind its own batching thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from landcover.catalog import load_models
from landcover.contract import ModelFile
from landcover.settings import CatalogSettings
from landcover_worker import metrics
from landcover_worker.batching import Batcher
from landcover_worker.runtimes.base import UInt8Array
from landcover_worker.session import Session
from landcover_worker.settings import WorkerSettings


class LoadedNetwork:
    """A session and its batcher."""

    def __init__(self, model: ModelFile, settings: WorkerSettings) -> None:
        session = Session(model, settings)
        session.warm_up()
        self.model = model
        self.provider = session.provider
        self.max_batch = session.max_batch
        self._batcher = Batcher(session.run, session.max_batch, model.name)

    def infer(
        self,
        image: UInt8Array,
        *,
        on_start: Callable[[], None] = lambda: None,
        alone: bool = False,
        urgent: bool = True,
    ) -> tuple[UInt8Array, UInt8Array]:
        """`Batcher.infer`."""
        return self._batcher.infer(image, on_start=on_start, alone=alone, urgent=urgent)

    def close(self) -> None:
        """Stop the batching thread."""
        self._batcher.close()


class Networks:
    """By digest. Loaded once: a worker serves the models it announced when it started."""

    def __init__(self, catalog: CatalogSettings, settings: WorkerSettings) -> None:
        models = load_models(catalog).models
        self.loaded: Mapping[str, LoadedNetwork] = {each.digest: LoadedNetwork(each, settings) for each in models}
        for digest, each in self.loaded.items():
            metrics.MODEL.labels(each.model.name, digest, each.provider).info({})

    def close(self) -> None:
        """Stop every batching thread."""
        for network in self.loaded.values():
            network.close()
