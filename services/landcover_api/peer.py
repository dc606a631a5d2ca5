"""A stock TiTiler that serves one GeoTIFF of finished land cover, run as the API is.

    python -m landcover_api.peer PORT MAP.tif

`landcover bench` compares warm tiles with it. It is the factory as its documentation has it, with the settings of GDAL
that it recommends; the file's own colour table draws the classes.
"""

from __future__ import annotations

import os
import sys
import warnings

import uvicorn
from fastapi import FastAPI
from rasterio.errors import NotGeoreferencedWarning
from titiler.core.factory import TilerFactory

_RECOMMENDED = {
    "GDAL_CACHEMAX": "200",
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "VSI_CACHE": "TRUE",
    "VSI_CACHE_SIZE": "5000000",
}
"""https://developmentseed.org/titiler/advanced/performance_tuning/"""


def create_app(path: str) -> FastAPI:
    """Tiles of the file at `path`."""
    app = FastAPI()
    app.include_router(TilerFactory(path_dependency=lambda: path).router)
    return app


if __name__ == "__main__":
    port, location = sys.argv[1:]
    os.environ.update(_RECOMMENDED)
    warnings.simplefilter("ignore", NotGeoreferencedWarning)  # its pictures are in no place
    uvicorn.run(create_app(location), host="127.0.0.1", port=int(port), log_level="warning", access_log=False)
