"""A report as one HTML file that needs no other: figures from the document, pictures from the gallery."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import jinja2
from markupsafe import Markup

from landcover.atomic import atomic_path
from landcover_export.evaluation.bootstrap import FEW_WINDOWS
from landcover_export.evaluation.document import Figure, ModelFigures, Report
from landcover_export.evaluation.gallery import Gallery
from landcover_export.evaluation.pictures import CONFIDENCE_RAMP, SURELY_WRONG, UNLABELLED, WRONG, Picture

MEANS = (
    ("overall_accuracy", "OA", "overall accuracy: the share of pixels that are right"),
    ("average_accuracy", "AA", "average accuracy: mean recall over the classes present"),
    ("mean_iou", "mIoU", "mean intersection over union over the classes present"),
    ("mean_f1", "mean F1", "mean F1 over the classes present"),
)
_WHISKER_PX = 132


def write_page(report: Report, gallery: Gallery, path: Path) -> None:
    """Write the page to `path`, and its pictures once more as files into `pictures/` beside it."""
    with atomic_path(path) as temporary:
        temporary.write_text(render(report, gallery), encoding="utf-8")
    folder = path.parent / "pictures"
    for name, picture in _files(gallery, [each.name for each in report.models]):
        target = folder / f"{name}{picture.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(picture.data)


def render(report: Report, gallery: Gallery) -> str:
    """The page's HTML."""
    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.PackageLoader("landcover_export.evaluation"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "decimals": lambda number: "–" if number is None else f"{number:.3f}",
        "signed": lambda number: "–" if number is None else f"{number:+.3f}".replace("-", "−"),
        "percent": lambda share: f"{100 * share:.0f}",
        "thousands": lambda count: f"{count:,}".replace(",", "\u202f"),
    }
    html = environment.get_template("report.html").render(
        report=report,
        means=MEANS,
        best={name: _best(report.models, name) for name, *_ in MEANS},
        best_iou=[_best_iou(report.models, index) for index in range(len(report.classes))],
        axes={name: _axis(getattr(model, name) for model in report.models) for name, *_ in MEANS},
        whisker=whisker,
        verdict=verdict,
        shares=[_shares(model) for model in report.models],
        heat=heat,
        places=gallery.places,
        worst=[gallery.worst(index) for index in range(len(report.models))],
        sure=[gallery.confidently_wrong(index) for index in range(len(report.models))],
        few_windows=report.sampling.windows < FEW_WINDOWS,
        colors={"wrong": WRONG, "sure": SURELY_WRONG, "unlabelled": UNLABELLED},
        ramp=", ".join(CONFIDENCE_RAMP),
    )
    return html.lstrip()  # the macros before it leave blank lines


def whisker(figure: Figure, axis: tuple[float, float]) -> Markup:
    """A dot with its interval on `axis`, as inline SVG."""
    if figure.value is None:
        return Markup("")
    low, high = axis

    def x(value: float) -> str:
        return f"{6 + (_WHISKER_PX - 12) * (value - low) / (high - low):.1f}"

    dot, bar = f'<circle cx="{x(figure.value)}" cy="7" r="4"/>', ""
    if figure.low is not None and figure.high is not None:
        bar = f'<line x1="{x(figure.low)}" x2="{x(figure.high)}" y1="7" y2="7" class="bar"/>'
    return Markup(
        f'<svg class="whisker" width="{_WHISKER_PX}" height="14" aria-hidden="true">'
        f'<line x1="0" x2="{_WHISKER_PX}" y1="7" y2="7" class="axis"/>{bar}{dot}</svg>'
    )


def verdict(figure: Figure) -> str:
    """What the interval of a difference says, in a word or two."""
    if figure.value is None or figure.low is None or figure.high is None:
        return ""
    if figure.low > 0:
        return "better"
    return "worse" if figure.high < 0 else "not told apart"


def heat(share: float, diagonal: bool) -> str:
    """Style of a cell: the darker the larger, blue where the class is right and red where it is not."""
    if share < 0.005:
        return ""
    alpha = 0.1 + 0.8 * share
    red, green, blue = (29, 78, 216) if diagonal else (190, 24, 60)
    return f"background-color: rgba({red}, {green}, {blue}, {alpha:.2f});" + (" color: #fff;" if alpha > 0.45 else "")


def _best(models: Iterable[ModelFigures], name: str) -> float | None:
    """The largest, if there is something to compare it with."""
    values = [figure.value for figure in (getattr(model, name) for model in models) if figure.value is not None]
    return max(values) if len(values) > 1 else None


def _best_iou(models: Iterable[ModelFigures], index: int) -> float | None:
    values = [value for value in (model.classes[index].iou.value for model in models) if value is not None]
    return max(values) if len(values) > 1 else None


def _axis(figures: Iterable[Figure]) -> tuple[float, float]:
    """Whole tenths around all bounds."""
    known = [
        number for figure in figures for number in (figure.value, figure.low, figure.high) if number is not None
    ] or [0.0, 1.0]
    low, high = int(min(known) * 10) / 10, -int(-max(known) * 10 // 1) / 10
    return (low, high) if high > low else (low, low + 0.1)


def _shares(model: ModelFigures) -> list[list[float]]:
    """Each row of the confusion matrix as shares of its reference class; zeros where that is absent."""
    return [[count / max(sum(row), 1) for count in row] for row in model.confusion_matrix]


def _files(gallery: Gallery, models: list[str]) -> Iterable[tuple[str, Picture]]:
    for place in gallery.places:
        name = _file_name(place.title)
        yield f"{name}_image", place.photograph
        yield f"{name}_label", place.label
        for each in place.models:
            stem = f"{_file_name(each.model)}/{name}"
            yield f"{stem}_prediction", each.prediction
            yield f"{stem}_errors", each.errors
            yield f"{stem}_confidence", each.confidence
    for index, model in enumerate(models):
        kinds = (("worst", gallery.worst(index)), ("confidently_wrong", gallery.confidently_wrong(index)))
        for kind, found in kinds:
            for rank, worst in enumerate(found, start=1):
                stem = f"{_file_name(model)}/{kind}_{rank}"
                yield f"{stem}_image", worst.place.photograph
                yield f"{stem}_label", worst.place.label
                yield f"{stem}_prediction", worst.place.models[0].prediction
                yield f"{stem}_errors", worst.place.models[0].errors


def _file_name(text: str) -> str:
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in text).lstrip(".") or "_"
