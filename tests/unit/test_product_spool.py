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
from landcover.grid import BlockIndex
from landcover.products.spool import Spool, remove_spool


def fields(seed: int) -> dict[str, bytes]:
    pixels = np.random.default_rng(seed).integers(0, 9, (2, 64, 64), dtype=np.uint8)
    return block.encode(pixels[0], pixels[1], 8)


def test_blocks_come_back_row_by_row(tmp_path: Path) -> None:
    blocks = {BlockIndex(0, col): fields(col) for col in (2, 0, 1)}
    with Spool(tmp_path / "spool", "a") as spool:
        spool.put(blocks.items())
        assert spool.count() == 3
        assert spool.cols_of_row(0) == {0, 1, 2}
        assert spool.cols_of_row(1) == set()
        found = list(spool.row(0, ["q0", "c0"]))
        assert spool.get(BlockIndex(0, 1), ["c0"]) == (fields(1)["c0"],)
        assert spool.get(BlockIndex(1, 1), ["c0"]) is None
    assert found == [(BlockIndex(0, col), (fields(col)["q0"], fields(col)["c0"])) for col in range(3)]


def test_a_failure_is_forgotten_when_the_block_is_there(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool", "a") as spool:
        spool.fail(BlockIndex(1, 1), "broken")
        spool.fail(BlockIndex(0, 1), "worse")
        assert spool.failures() == {BlockIndex(0, 1): "worse", BlockIndex(1, 1): "broken"}
        spool.put([(BlockIndex(1, 1), fields(0))])
        assert list(spool.failures()) == [BlockIndex(0, 1)]
        spool.forget_failures()
        assert not spool.failures()


def test_another_identity_is_refused(tmp_path: Path) -> None:
    Spool(tmp_path / "spool", "a").close()
    with pytest.raises(Conflict, match="delete it to begin anew"):
        Spool(tmp_path / "spool", "b")
    (tmp_path / "rubbish").write_bytes(b"no database at all, but long enough to be taken for one" * 100)
    with pytest.raises(DestinationUnwritable, match="rubbish cannot be written"):
        Spool(tmp_path / "rubbish", "a")
    with pytest.raises(DestinationUnwritable):
        Spool(tmp_path / "none" / "spool", "a")


def test_a_batch_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool", "a") as spool:
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
sys.path.insert(0, {unit!r})
from test_product_spool import fields
spool = Spool(Path({spool!r}), "a")
for col in range(1000):
    spool.put([(BlockIndex(0, col), fields(col))])
    print(col, flush=True)
    if col == 20:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_put_outlives_a_kill(tmp_path: Path) -> None:
    unit = Path(__file__).parent
    code = KILLED.format(tests=str(unit.parent), unit=str(unit), spool=str(tmp_path / "spool"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    told = len(done.stdout.split())
    with Spool(tmp_path / "spool", "a") as spool:
        assert spool.count() == told == 21


FULL = """
import resource, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from landcover.errors import DestinationUnwritable
from landcover.grid import BlockIndex
from landcover.products.spool import Spool
sys.path.insert(0, {unit!r})
from test_product_spool import fields
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
spool = Spool(Path({spool!r}), "a")
try:
    for col in range(1000):
        spool.put([(BlockIndex(0, col), fields(col))])
except DestinationUnwritable as error:
    print(error)
    print(spool.count())
"""


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    unit = Path(__file__).parent
    code = FULL.format(tests=str(unit.parent), unit=str(unit), spool=str(tmp_path / "spool"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    said, count = done.stdout.strip().rsplit("\n", 1)
    assert "what is in it already is kept" in said
    assert int(count) > 2
    with Spool(tmp_path / "spool", "a") as spool:
        assert spool.count() == int(count)
        assert next(spool.row(0, ["c0"]))[1][0] == fields(0)["c0"]
        spool.put([(BlockIndex(1, 0), fields(0))])
