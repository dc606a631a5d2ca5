"""The spool: what is put in is there after any death, and a disk that is full loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from landcover import block
from landcover.errors import Conflict, DestinationUnwritable
from landcover.grid import BlockIndex, Grid
from landcover.products.spool import Spool, fields_of, remove_spool
from rasters import grid_of, noise, scene_of, write_tif


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return grid_of(scene_of(write_tif(tmp_path / "scene.tif", noise(256, 256))), block_px=64)


def fields(seed: int) -> dict[str, bytes]:
    pixels = np.random.default_rng(seed).integers(0, 9, (2, 64, 64), dtype=np.uint8)
    return block.encode(pixels[0], pixels[1], 8)


def test_fields_come_back_smallest_first(grid: Grid, tmp_path: Path) -> None:
    assert fields_of(grid) == ("h", "c6", "q6", "c5", "q5", "c4", "q4", "c3", "q3", "c2", "q2", "c1", "q1", "c0", "q0")
    blocks = {BlockIndex(0, col): fields(col) for col in (2, 0, 1)}
    with Spool(tmp_path / "spool", grid, "a") as spool:
        spool.put(blocks.items())
        assert spool.count() == 3
        assert spool.cols_of_row(0) == {0, 1, 2}
        assert spool.cols_of_row(1) == set()
        found = list(spool.row(0, ["c0", "h"]))
    assert found == [(BlockIndex(0, col), (fields(col)["c0"], fields(col)["h"])) for col in range(3)]


def test_a_failure_is_forgotten_when_the_block_is_there(grid: Grid, tmp_path: Path) -> None:
    with Spool(tmp_path / "spool", grid, "a") as spool:
        spool.fail(BlockIndex(1, 1), "broken")
        spool.fail(BlockIndex(0, 1), "worse")
        assert spool.failures() == {BlockIndex(0, 1): "worse", BlockIndex(1, 1): "broken"}
        spool.put([(BlockIndex(1, 1), fields(0))])
        assert list(spool.failures()) == [BlockIndex(0, 1)]
        spool.forget_failures()
        assert not spool.failures()


def test_another_identity_is_refused(grid: Grid, tmp_path: Path) -> None:
    Spool(tmp_path / "spool", grid, "a").close()
    with pytest.raises(Conflict, match="delete it to begin anew"):
        Spool(tmp_path / "spool", grid, "b")
    (tmp_path / "rubbish").write_bytes(b"no database at all, but long enough to be taken for one" * 100)
    with pytest.raises(DestinationUnwritable, match="rubbish cannot be written"):
        Spool(tmp_path / "rubbish", grid, "a")
    with pytest.raises(DestinationUnwritable):
        Spool(tmp_path / "none" / "spool", grid, "a")


def test_a_batch_is_there_as_a_whole_or_not_at_all(grid: Grid, tmp_path: Path) -> None:
    with Spool(tmp_path / "spool", grid, "a") as spool:
        with pytest.raises(KeyError):
            spool.put([(BlockIndex(0, 0), fields(0)), (BlockIndex(0, 1), {})])
        assert spool.count() == 0
        spool.put([(BlockIndex(0, 0), fields(0))])
    remove_spool(tmp_path / "spool")
    assert not list(tmp_path.glob("spool*"))


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from landcover.grid import BlockIndex
from landcover.products.spool import Spool
from rasters import grid_of, scene_of
sys.path.insert(0, {unit!r})
from test_product_spool import fields
grid = grid_of(scene_of(Path({scene!r})), block_px=64)
spool = Spool(Path({spool!r}), grid, "a")
for col in range(1000):
    spool.put([(BlockIndex(0, col), fields(col))])
    print(col, flush=True)
    if col == 20:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_put_outlives_a_kill(grid: Grid, tmp_path: Path) -> None:
    unit = Path(__file__).parent
    code = KILLED.format(
        tests=str(unit.parent), unit=str(unit), scene=str(tmp_path / "scene.tif"), spool=str(tmp_path / "spool")
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    told = len(done.stdout.split())
    with Spool(tmp_path / "spool", grid, "a") as spool:
        assert spool.count() == told == 21


FULL = """
import resource, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from landcover.errors import DestinationUnwritable
from landcover.grid import BlockIndex
from landcover.products.spool import Spool
from rasters import grid_of, scene_of
sys.path.insert(0, {unit!r})
from test_product_spool import fields
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
grid = grid_of(scene_of(Path({scene!r})), block_px=64)
spool = Spool(Path({spool!r}), grid, "a")
try:
    for col in range(1000):
        spool.put([(BlockIndex(0, col), fields(col))])
except DestinationUnwritable as error:
    print(error)
    print(spool.count())
"""


def test_a_full_disk_is_said_and_loses_nothing(grid: Grid, tmp_path: Path) -> None:
    unit = Path(__file__).parent
    code = FULL.format(
        tests=str(unit.parent), unit=str(unit), scene=str(tmp_path / "scene.tif"), spool=str(tmp_path / "spool")
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    said, count = done.stdout.strip().rsplit("\n", 1)
    assert "what is in it already is kept" in said
    assert int(count) > 2
    with Spool(tmp_path / "spool", grid, "a") as spool:
        assert spool.count() == int(count)
        assert next(spool.row(0, ["c0"]))[1][0] == fields(0)["c0"]
        spool.put([(BlockIndex(1, 0), fields(0))])
