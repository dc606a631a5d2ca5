"""From a report to a model's contract: the figures of one file, and writing them into it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from landcover.atomic import atomic_path
from landcover.contract import DesignEffects, Interval, Metrics, digest_of, read_model
from landcover_export.evaluation.document import Figure, Report
from landcover_export.evaluation.metrics import Accuracy
from landcover_export.evaluation.report import read_report
from landcover_export.labelled import DataError


def metrics_from_report(path: Path, model: Path) -> Metrics:
    """What a report says of the file `model`, in the form of a contract: `landcover export --metrics report.json`.

    Raises:
        DataError: the report is missing or of another format, or as in `metrics_of`.
    """
    return metrics_of(read_report(path), model, source=str(path))


def metrics_of(report: Report, model: Path, *, source: str = "The report") -> Metrics:
    """What `report` says of the file `model`, in the form of a contract.

    Raises:
        DataError: it does not measure this very file, or measures it on classes that the file does not know, for which
            its contract has no row.
    """
    if not model.is_file():
        raise DataError(f"There is no model {model}.")
    digest = digest_of(model.read_bytes())
    found = next((each for each in report.models if each.digest == digest), None)
    if found is None:
        names = ", ".join(each.path for each in report.models)
        raise DataError(f"{source} does not measure {model} as it is now, but {names}; evaluate it again.")
    own = [index for index, each in enumerate(report.classes) if each.value in found.class_values]
    if lost := [each.name for index, each in enumerate(report.classes) if each.present and index not in own]:
        raise DataError(
            f"{source} measures {model} on {', '.join(lost)}, which it does not know; evaluate it alone, with "
            "--classes that map these labels to what it should call them, or to 0."
        )
    confusion = np.array(found.confusion_matrix, dtype=np.int64)[np.ix_(own, own)]
    return (
        Accuracy(confusion=confusion)
        .as_metrics(report.dataset)
        .model_copy(
            update={
                "overall_accuracy_interval": _bounds(found.overall_accuracy),
                "average_accuracy_interval": _bounds(found.average_accuracy),
                "mean_iou_interval": _bounds(found.mean_iou),
                "windows": report.sampling.windows,
                "design_effects": tuple(
                    DesignEffects(place_px=each.place_px, classes=tuple(each.classes[index] for index in own))
                    for each in found.design_effects
                ),
            }
        )
    )


def write_metrics(report: Report, path: Path) -> str:
    """Put what `report` says of the ONNX file `path` into its contract, whole or not at all; the graph stays as it is.

    Returns the file's new digest.

    Raises:
        DataError: as in `metrics_of`.
        InvalidModel: the file has no valid contract.
    """
    contract = read_model(path).contract.model_copy(update={"metrics": metrics_of(report, path)})
    proto = onnx.load(str(path))
    onnx.helper.set_model_props(
        proto, {each.key: each.value for each in proto.metadata_props} | contract.metadata_props()
    )
    with atomic_path(path) as temporary:
        onnx.save(proto, str(temporary))
        return read_model(temporary).digest


def _bounds(figure: Figure) -> Interval | None:
    return None if figure.low is None or figure.high is None else (figure.low, figure.high)
