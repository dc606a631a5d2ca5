"""`landcover evaluate`: its report as JSON and as a page, the figures for a contract, and what it refuses."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from landcover.cli import main
from landcover.contract import Contract, digest_of, read_model
from landcover_export.evaluation.bootstrap import paired_difference
from landcover_export.evaluation.contracts import metrics_from_report
from landcover_export.evaluation.document import Report
from landcover_export.evaluation.evaluate import evaluate_windows
from landcover_export.evaluation.metrics import Accuracy, mean_iou
from landcover_export.evaluation.models import load_models
from landcover_export.evaluation.report import read_report
from landcover_export.labelled import DataError, find_pairs
from onnx_models import expected_classes, pixel_contract, write_pixel_model
from rasters import noise

PRESENT = (1, 3, 4, 5, 6, 8)


def write_pair(folder: Path, name: str, image: np.ndarray, label: np.ndarray) -> None:
    for kind, pixels in (("images", image), ("labels", label)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / kind / f"{name}.png")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two regions of two images; `pixels` is right on five sixths, classes 2 and 7 are never labelled."""
    root = tmp_path_factory.mktemp("labelled")
    for seed, (region, name) in enumerate((region, name) for region in ("north", "south") for name in ("a", "<b>")):
        image = noise(130, 190, seed=seed)
        label = expected_classes(image)
        label[~np.isin(label, PRESENT)] = 0
        label[np.random.default_rng(seed).random(label.shape) < 1 / 6] = 1
        label[:, 150:] = 0
        write_pair(root / region, f"{region}_{name}", image, label)
    return root


@pytest.fixture(scope="module")
def rival(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another file that answers as `pixels` does."""
    return write_pixel_model(tmp_path_factory.mktemp("models") / "rival.onnx", pixel_contract("rival"))


@pytest.fixture(scope="module")
def folder(root: Path, pixel_model: Path, rival: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on both models."""
    out = tmp_path_factory.mktemp("report")
    code = main(["evaluate", str(pixel_model), str(rival), "--data", str(root), "--cluster", "64", "--out", str(out)])
    assert code == 0
    return out


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    return read_report(folder / "report.json")


class _Page(HTMLParser):
    """Pictures, links and figures of a page, and whether its tags are closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.pictures: list[dict[str, str | None]] = []
        self.references: list[str] = []
        self.names: set[str] = set()
        self.figures: list[tuple[str, str]] = []
        self._open: list[str] = []
        self._figure: str | None = None
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.names.add(tag)
        if tag == "img":
            self.pictures.append(found)
        self.references += [found[key] or "" for key in ("href", "src", "srcset", "data", "action") if key in found]
        self._figure = found.get("data-figure") or self._figure
        if tag not in ("meta", "img", "br", "line", "circle"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._figure and data.strip():
            self.figures.append((self._figure, data.strip()))
            self._figure = None


@pytest.fixture(scope="module")
def page(folder: Path) -> _Page:
    return _Page((folder / "report.html").read_text(encoding="utf-8"))


def test_json_holds_what_the_library_computes(report: Report, root: Path, pixel_model: Path, rival: Path) -> None:
    models = load_models([pixel_model, rival])
    pairs = find_pairs(root)
    evaluation = evaluate_windows(models, (each.read() for each in pairs), classes=models[0].classes, cluster_px=64)
    first, second = evaluation.counts
    accuracy = Accuracy(confusion=first.confusion)
    figures = report.models[0]
    assert figures.overall_accuracy.value == round(accuracy.overall, 4)
    assert figures.average_accuracy.value == round(accuracy.average, 4)
    assert figures.mean_iou.value == round(accuracy.mean_iou, 4)
    assert figures.mean_f1.value == round(accuracy.mean_f1, 4)
    assert figures.confusion_matrix == first.confusion.tolist()
    assert figures.digest == digest_of(pixel_model.read_bytes())
    assert figures.overall_accuracy.low is not None
    assert figures.overall_accuracy.high is not None
    assert figures.overall_accuracy.low < figures.overall_accuracy.value < figures.overall_accuracy.high
    assert [each.errors for each in figures.windows] == first.errors.tolist()
    assert sum(each.labelled_pixels for each in report.windows) == report.labelled_pixels == int(first.labelled.sum())
    assert sum(each.pixels for each in figures.calibration) == report.labelled_pixels
    expected = paired_difference(second.confusions, first.confusions, mean_iou)
    (difference,) = report.differences
    assert (difference.model, difference.baseline) == ("rival", "pixels")
    assert difference.mean_iou.value == round(expected.estimate, 4) == 0  # two files of the same answers
    assert report.sampling.windows == len(report.windows) == 4 * 2 * 3


def test_absent_classes_have_no_figures(report: Report) -> None:
    for index, each in enumerate(report.classes):
        assert each.present == (each.value in PRESENT)
        if not each.present:
            figures = report.models[0].classes[index]
            assert {figures.iou.value, figures.f1.value, figures.precision.value, figures.recall.value} == {None}
            assert figures.predicted_pixels > 0  # label 1 was put over some of them


def test_the_page_needs_nothing_else(page: _Page, folder: Path) -> None:
    assert page.references
    assert all(each.startswith("data:image/") for each in page.references)
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert not {"script", "link", "iframe", "object", "base"} & page.names
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html
    assert "north_&lt;b&gt;" in html  # a name is text, whatever it holds


def test_every_picture_decodes_at_its_size_and_is_described(page: _Page) -> None:
    assert len(page.pictures) == 4 * (2 + 3 * 2) + 2 * (4 + 4) * 4
    for each in page.pictures:
        assert each["alt"]
        source = each["src"] or ""
        picture = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        picture.load()
        assert picture.size == (int(each["width"] or 0), int(each["height"] or 0))


def test_the_pages_figures_are_those_of_the_json(page: _Page, report: Report) -> None:
    names = ("overall_accuracy", "average_accuracy", "mean_iou", "mean_f1")
    expected = [(name, f"{getattr(model, name).value:.3f}") for model in report.models for name in names]
    assert page.figures == expected


def test_pictures_lie_beside_it(folder: Path) -> None:
    with Image.open(folder / "pictures" / "north_a_label.png") as label:
        assert label.size == (190, 130)
    assert (folder / "pictures" / "pixels" / "worst_1_errors.jpg").is_file()
    assert (folder / "pictures" / "rival" / "north__b__prediction.png").is_file()


def test_figures_for_a_contract(folder: Path, report: Report, pixel_model: Path) -> None:
    metrics = metrics_from_report(folder / "report.json", pixel_model)
    figures = report.models[0]
    assert metrics.overall_accuracy == figures.overall_accuracy.value
    assert metrics.mean_iou == figures.mean_iou.value
    assert metrics.mean_iou_interval == (figures.mean_iou.low, figures.mean_iou.high)
    assert metrics.windows == report.sampling.windows
    assert [list(row) for row in metrics.confusion_matrix] == figures.confusion_matrix
    assert [each.iou for each in metrics.classes] == [each.iou.value for each in figures.classes]
    contract = pixel_contract("measured").model_copy(update={"metrics": metrics})
    assert Contract.model_validate_json(contract.model_dump_json()) == contract


def test_a_contract_takes_no_figures_of_another_file(folder: Path, tmp_path: Path) -> None:
    other = write_pixel_model(tmp_path / "other.onnx", pixel_contract("other"))
    with pytest.raises(DataError, match=r"does not measure .*other\.onnx as it is now"):
        metrics_from_report(folder / "report.json", other)


def test_a_contract_takes_no_figures_on_classes_it_lacks(folder: Path, tmp_path: Path, pixel_model: Path) -> None:
    document = json.loads((folder / "report.json").read_text())
    document["models"][0]["class_values"] = [1, 3, 4, 5, 6]
    (tmp_path / "r.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="on building, which it does not know"):
        metrics_from_report(tmp_path / "r.json", pixel_model)


@pytest.mark.parametrize("text", ["", "{}", '{"format": "landcover-evaluation/9"}', "no json"])
def test_a_report_of_another_format_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DataError, match="is no report of this version"):
        read_report(tmp_path / "r.json")


def test_groups_splits_and_one_image(root: Path, pixel_model: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("south_a.tif\nelsewhere_1.tif\n")
    image, label = root / "north" / "images" / "north_a.png", root / "north" / "labels" / "north_a.png"
    out = tmp_path / "r.json"
    for arguments, images in (
        (["--data", str(root), "--groups", "south"], {"south_a", "south_<b>"}),
        (["--data", str(root), "--split", str(tmp_path / "list.txt")], {"south_a"}),
        (["--image", str(image), "--label", str(label)], {"north_a"}),
    ):
        assert main(["evaluate", str(pixel_model), *arguments, "--json", str(out), "--bootstrap", "20"]) == 0
        assert {each.image for each in read_report(out).windows} == images


def test_labels_with_numbers_of_their_own(tmp_path: Path, pixel_model: Path) -> None:
    image = noise(64, 64)
    label = expected_classes(image)
    write_pair(tmp_path / "set", "a", image, (label * 10).astype(np.uint8))
    mapping = [f"{10 * value}={value if value != 2 else 0}" for value in range(1, 9)]
    arguments = ["evaluate", str(pixel_model), "--data", str(tmp_path / "set"), "--json", str(tmp_path / "r.json")]
    assert main([*arguments, "--classes", *mapping]) == 0
    report = read_report(tmp_path / "r.json")
    assert report.models[0].overall_accuracy.value == 1
    assert report.labelled_pixels == np.count_nonzero(label != 2)


def faulty() -> Iterator[Any]:
    image, label = noise(64, 64), np.ones((64, 64), np.uint8)
    yield pytest.param(image, label * 9, [], "a.png holds the label values 9, which are no classes", id="no class")
    yield pytest.param(image, label * 7, ["--classes", "1=1"], "a.png holds the label values 7", id="not mapped")
    yield pytest.param(image, label[:, :60], [], "is 64 × 64 px, but its label", id="another size")
    yield pytest.param(image, label * 0, [], "No pixel of set (all of it) is labelled", id="nothing labelled")
    yield pytest.param(image, label, ["--groups", "moon"], "has no group moon", id="no such group")
    yield pytest.param(image, label, ["--classes", "1=0"], "No pixel of set (all of it) is labelled", id="all left out")


@pytest.mark.parametrize(("image", "label", "arguments", "sentence"), list(faulty()))
def test_faulty_labels_are_found_before_anything_is_mapped(
    image: np.ndarray,
    label: np.ndarray,
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    pixel_model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("landcover_export.evaluation.models.map_image", lambda *_, **__: pytest.fail("mapped"))
    write_pair(tmp_path / "set", "a", image, label)
    assert main(["evaluate", str(pixel_model), "--data", str(tmp_path / "set"), *arguments]) == 1
    printed = capsys.readouterr().err
    assert sentence in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--image", "a.tif"], "belong together"),
        (["--drawn", "1", "--groups", "x"], "give that too"),
        (["--drawn", "1", "--drawn-side", "512"], "--drawn-side 1024"),
        (["--data", "nowhere"], "There is no folder nowhere"),
        (["--image", "a.tif", "--label", "b.tif"], "There is no file a.tif"),
    ],
)
def test_contradictions_are_a_sentence(
    arguments: list[str], sentence: str, pixel_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(pixel_model), *arguments]) == 1
    assert sentence in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_found_first(
    root: Path, pixel_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["evaluate", str(pixel_model), "--data", str(root), "--out", str(tmp_path / "file" / "r")]) == 1
    assert "name another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--drawn", "1", "--classes", "1:2"],
        ["--drawn", "1", "--scale", "0"],
        ["--drawn", "1", "--bootstrap", "-1"],
        ["--drawn", "-1"],
        ["--data", "x", "--image", "y"],
        [],
        ["other.onnx", "--drawn", "1", "--write-contract"],
    ],
)
def test_usage(arguments: list[str], pixel_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(pixel_model), *arguments])
    assert ended.value.code == 2
    assert "usage: landcover evaluate" in capsys.readouterr().err


def test_figures_into_the_contract_of_the_file_itself(root: Path, tmp_path: Path, pixel_model: Path) -> None:
    """Files and a drawn scene pooled; all but the figures stays as it was, and a second time changes nothing."""
    model, out = tmp_path / "m.onnx", tmp_path / "r.json"
    model.write_bytes(pixel_model.read_bytes())
    arguments = ["evaluate", str(model), "--data", str(root), "--drawn", "7", "--drawn-side", "1024"]
    assert main([*arguments, "--write-contract", "--json", str(out), "--bootstrap", "20"]) == 0
    report, before, after = read_report(out), read_model(pixel_model), read_model(model)
    metrics = after.contract.metrics
    assert metrics is not None
    assert report.models[0].digest == before.digest != after.digest
    assert after.contract.model_copy(update={"metrics": None}) == before.contract
    assert [list(row) for row in metrics.confusion_matrix] == report.models[0].confusion_matrix
    assert sum(map(sum, metrics.confusion_matrix)) == report.labelled_pixels > 1024**2
    assert {each.image for each in report.windows} >= {"north_a", "drawn-7"}
    assert metrics.design_effects == tuple(report.models[0].design_effects)
    assert metrics.design_effects[0].place_px == pytest.approx(1024, rel=0.1)
    assert onnx.load(model).graph == onnx.load(pixel_model).graph
    assert main([*arguments, "--write-contract", "--bootstrap", "20"]) == 0
    assert read_model(model).digest == after.digest


def test_a_report_from_before_design_effects_is_still_read(folder: Path, tmp_path: Path, pixel_model: Path) -> None:
    document = json.loads((folder / "report.json").read_text())
    for each in document["models"]:
        del each["design_effects"]
    (tmp_path / "r.json").write_text(json.dumps(document))
    assert metrics_from_report(tmp_path / "r.json", pixel_model).design_effects == ()


@pytest.mark.parametrize("name", ["junk.onnx", "junk.pt"])
def test_a_file_that_is_no_model_is_a_sentence(
    name: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(b"junk")
    assert main(["evaluate", str(tmp_path / name), "--data", str(root)]) == 1
    assert f"{tmp_path / name} is no" in capsys.readouterr().err
