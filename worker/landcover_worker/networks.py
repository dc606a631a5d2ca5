"""The models a worker serves, each loaded, warm and behind its own batching thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from landcover.catalog import load_models
from landcover.contract import ModelFile
from landcover.errors import LandcoverError
from landcover.settings import CatalogSettings
from landcover_worker import metrics
from landcover_worker.batching import Batcher
from landcover_worker.session import Session
from landcover_worker.settings import WorkerSettings

logger = logging.getLogger(__name__)


class LoadedNetwork:
    """A session and its batcher."""

    def __init__(self, model: ModelFile, settings: WorkerSettings) -> None:
        session = Session(model, settings)
        session.warm_up()
        self.model = model
        self.provider = session.provider
        self.max_batch = session.max_batch
        self._batcher = Batcher(session.run, session.max_batch, model.name)

    def infer(self, image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Class values and confidence `(height, width)` of a window `(height, width, 3)`."""
        return self._batcher.infer(image)

    def close(self) -> None:
        """Stop the batching thread."""
        self._batcher.close()


class Networks:
    """By digest. A model that appears in the folder later is loaded when a task first asks for it."""

    def __init__(self, catalog: CatalogSettings, settings: WorkerSettings) -> None:
        self._catalog = catalog
        self._settings = settings
        self._loading = threading.Lock()
        self._loaded: dict[str, LoadedNetwork] = {}
        self._load()

    @property
    def loaded(self) -> Mapping[str, LoadedNetwork]:
        """What is ready now."""
        return self._loaded

    def get(self, digest: str) -> LoadedNetwork | None:
        """The network of that digest, loading it if its file is there by now; None if it is not."""
        if digest not in self._loaded:
            with self._loading:
                if digest not in self._loaded:
                    try:
                        self._load()
                    except LandcoverError as error:
                        logger.warning("models cannot be read again: %s", error)
        return self._loaded.get(digest)

    def close(self) -> None:
        """Stop every batching thread."""
        for network in self._loaded.values():
            network.close()

    def _load(self) -> None:
        for model in load_models(self._catalog).models:
            if model.digest not in self._loaded:
                self._loaded = self._loaded | {model.digest: LoadedNetwork(model, self._settings)}
        metrics.MODEL.info(
            {
                "models": " ".join(f"{each.model.name}@{digest}" for digest, each in self._loaded.items()),
                "provider": next(iter(self._loaded.values())).provider,
            }
        )
