"""`landcover up` as a person uses it: it serves, stops without a trace, and refuses with a sentence."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from landcover import local
from running import descendants, is_alive


def up(*arguments: str | Path | int, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "landcover", "up", *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until_ready(process: subprocess.Popen[str], url: str) -> None:
    deadline = time.monotonic() + 120
    while not local.readiness(url).get("workers"):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["ctrl-c", "term", "kill -9"])
def test_up_serves_and_leaves_no_process_behind(demo_scene: Path, tmp_path: Path, kind: signal.Signals) -> None:
    port = local.free_port()
    process = up("--scenes", demo_scene, "--port", port, folder=tmp_path)
    url = f"http://127.0.0.1:{port}"
    assert process.stdout
    said = next(line for line in process.stdout if url in line)
    assert said.startswith("Land cover is served at")
    assert local.readiness(url)["workers"]
    assert httpx.get(f"{url}/").headers["content-type"].startswith("text/html")
    children = descendants(process.pid)
    assert len(children) >= 4  # broker, cache, worker, API
    process.send_signal(kind)
    output, _ = process.communicate(timeout=60)
    if kind != signal.SIGKILL:
        assert process.returncode == 0
        assert "Traceback" not in output
    deadline = time.monotonic() + 30
    while any(map(is_alive, children)):
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.1)


def test_several_scenes_after_one_option(demo_scene: Path, tmp_path: Path) -> None:
    second = tmp_path / "another place.tif"
    second.write_bytes(demo_scene.read_bytes())
    port = local.free_port()
    process = up("--scenes", demo_scene, second, "--port", port, folder=tmp_path)
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}")
        scenes = httpx.get(f"http://127.0.0.1:{port}/scenes").json()["scenes"]
        assert [scene["id"] for scene in scenes] == ["another-place", "demo"]
        assert all(scene["error"] is None for scene in scenes)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def test_annotations_are_kept_in_the_state_folder_and_shared(demo_scene: Path, tmp_path: Path) -> None:
    """A second run beside the first has a cache of its own, but the same annotations."""
    processes = []
    try:
        for _ in range(2):
            port = local.free_port()
            processes.append(up("--scenes", demo_scene, "--port", port, "--state", "kept", folder=tmp_path))
            url = f"http://127.0.0.1:{port}"
            wait_until_ready(processes[-1], url)
            west, south, east, north = httpx.get(f"{url}/scenes/demo").json()["bounds"]
            x, y, side = (west + east) / 2, (south + north) / 2, (north - south) / 10
            ring = [[x, y], [x + side, y], [x, y + side], [x, y]]
            feature = {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {"scene": "demo", "class": "tree"},
            }
            assert httpx.post(f"{url}/annotations", json=feature).status_code == 201
        assert httpx.get(f"{url}/annotations").json()["numberMatched"] == 2
        assert (tmp_path / "kept" / "landcover.sqlite").exists()
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)


def refusal(*arguments: str | Path | int, folder: Path) -> str:
    """What `up` says when it will not start: one sentence."""
    process = up(*arguments, folder=folder)
    output, _ = process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert "Traceback" not in output
    lines = [line for line in output.splitlines() if line.strip()]
    assert len(lines) == 1, output
    return lines[0]


def test_a_taken_port_is_refused(demo_scene: Path, tmp_path: Path, taken_port: int) -> None:
    assert f"Port {taken_port}" in refusal("--scenes", demo_scene, "--port", taken_port, folder=tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "There is no file or folder" in refusal(
        "--scenes", "nowhere.tif", "--port", local.free_port(), folder=tmp_path
    )


@pytest.mark.parametrize("content", [b"", b"hello", b"II*\0" + os.urandom(500)], ids=["empty", "text", "rubbish"])
def test_a_file_that_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.tif").write_bytes(content)
    assert "odd.tif" in refusal("--scenes", "odd.tif", "--port", local.free_port(), folder=tmp_path)


def test_a_file_that_is_no_model_is_refused(demo_scene: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.onnx").write_bytes(b"hello")
    arguments = ["--scenes", demo_scene, "--models", "odd.onnx", "--port", local.free_port()]
    assert "odd.onnx" in refusal(*map(str, arguments), folder=tmp_path)


def test_a_worker_with_a_broken_contract_says_why_and_ends(pixel_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(pixel_model.read_bytes().replace(b'"window_px":320', b'"window_px":321'))
    done = subprocess.run(
        local.landcover_command("worker"),
        env={**os.environ, "LANDCOVER_MODELS": str(broken)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "window_px" in done.stderr
    assert "Traceback" not in done.stderr
