"""A round: from annotations to a candidate, a comparison with its parent, and a verdict, all in one folder.

The folder holds `config.yaml` and `annotations.geojson` (what the round was told, as it was then), `places.png`,
`checkpoints/`, `candidate.pt` and `candidate.onnx` (the new model), `comparison.png`, `verdict.json`, and `model.onnx`
if the model was promoted. `progress.json` says how far it is.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from landcover.annotations import Annotation, read_features
from landcover.annotations.files import write_geojson
from landcover.atomic import atomic_path
from landcover.contract import Contract, digest_of
from landcover.errors import Conflict, InvalidConfiguration
from landcover_export.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from landcover_export.finetuning.compare import Comparison, compare
from landcover_export.finetuning.config import CONFIG, SNAPSHOT, RoundConfig, read_round, write_config
from landcover_export.finetuning.core import finetune
from landcover_export.finetuning.gate import Verdict, judge
from landcover_export.finetuning.material import Material, centre, prepare
from landcover_export.finetuning.names import CANDIDATE, COMPARISON, MODEL, PLACES, PROGRESS, VERDICT, WEIGHTS
from landcover_export.finetuning.parent import load_parent
from landcover_export.finetuning.pictures import draw_comparison, draw_places
from landcover_export.finetuning.report import verdict_document, verdict_of
from landcover_export.onnx_export import export_onnx
from landcover_export.training.run import LAST

_TRAINED = 85
"""Percentage at which the training has ended."""
_LOCK_PATIENCE_S = 30.0
_PARITY_IMAGES = 4


def begin(config: RoundConfig, annotations: Sequence[Annotation], out: Path) -> None:
    """Write down what the round is told.

    Raises:
        InvalidConfiguration: there is a round in `out` already.
    """
    refuse_begun(out)
    out.mkdir(parents=True, exist_ok=True)
    write_geojson(out / SNAPSHOT, annotations)
    write_config(config, out)


def refuse_begun(out: Path) -> None:
    """Accept a folder without a round.

    Raises:
        InvalidConfiguration: there is one.
    """
    if (out / CONFIG).exists() or (out / SNAPSHOT).exists():
        raise InvalidConfiguration(f"{out} holds a round already; go on with --resume, or name another --out.")


def run_round(out: Path, console: Console, material: Material | None = None) -> Verdict:
    """Do the round in `out`, or what is left of it.

    Args:
        out: where `begin` has written it down.
        console: for progress and notes.
        material: if it was prepared already.

    Raises:
        InvalidConfiguration: there is none.
        Conflict: another process is at it.
        LandcoverError: what is wrong with its material, before the first step.
        TrainingDiverged: the loss is no number any more.
        KeyboardInterrupt: it was asked to stop; it can be resumed.
    """
    config = read_round(out)

    def tell(percent: int, what: str) -> None:
        _write_json(out / PROGRESS, {"progress": percent, "message": what})

    with _alone(out):
        if (out / VERDICT).is_file():
            return _ended(config, out)
        tell(0, "reading annotations and scenes")
        if material is None:
            material = prepare(config, snapshot(out, config), console)
        centres = [centre(each, material.margin_px) for each in material.held_out.images]
        draw_places(material.taught.images, centres, material.student.classes, out / PLACES)
        child = _trained(config, material, out, tell)
        tell(_TRAINED, "comparing with the parent")
        comparison = compare(material, child, console)
        draw_comparison(centres, comparison.maps, child.classes, out / COMPARISON)
        verdict = judge(
            child.classes,
            comparison.annotations,
            comparison.base,
            bound=config.bound,
            force=config.force,
            seed=config.training.seed,
        )
        tell(95, "writing the model")
        contract = _contract(config, material, comparison)
        export_onnx(child.network, child.config, contract, out / CANDIDATE, _parity_images(material, contract))
        digest = digest_of((out / CANDIDATE).read_bytes())
        _write_json(out / VERDICT, verdict_document(verdict, config, material, contract, digest))
        if verdict.promoted:
            _promote(contract.name, out, config.promote_to)
        tell(100, verdict.reasons[0] if verdict.reasons else "done")
    return verdict


def snapshot(out: Path, config: RoundConfig) -> list[Annotation]:
    """The annotations that the round in `out` began with."""
    return read_features(out / SNAPSHOT, classes=load_parent(config.parent).contract.classes)


def _trained(config: RoundConfig, material: Material, out: Path, tell: Callable[[int, str], None]) -> Checkpoint:
    weights = out / WEIGHTS
    if not weights.is_file():
        last = out / LAST

        def told(done: int, epochs: int) -> None:
            tell(5 + (_TRAINED - 5) * done // epochs, f"epoch {done} of {epochs}")

        tell(5, "training")
        network = finetune(
            material.student,
            material.taught.images,
            material.base.pools,
            config.training,
            out,
            last if last.is_file() else None,
            told,
        )
        student = material.student
        child = Checkpoint(
            config=student.config,
            classes=student.classes,
            network=network,
            gsd=material.parent.contract.gsd,
            training_data=_training_data(material),
        )
        save_checkpoint(child, weights)
    return load_checkpoint(weights)


def _contract(config: RoundConfig, material: Material, comparison: Comparison) -> Contract:
    """The parent's, with what has changed and where it comes from."""
    before = material.parent.contract
    changes = {
        "name": config.name or before.name,
        "version": config.version or next_version(before.version),
        "classes": material.student.classes,
        "architecture": str(material.student.config),
        "parent_digest": material.parent.digest,
        "annotations": material.taught_used,
        "training_data": _training_data(material),
        "metrics": comparison.metrics,
    }
    return Contract.model_validate({**dict(before), **changes})


def _training_data(material: Material) -> tuple[str, ...]:
    used, held = material.taught_used, material.held_out_used
    sentence = (
        f"fine-tuned on {used.polygons} annotated polygons ({used.area_m2 / 10_000:.3g} ha) of {', '.join(used.scenes)}"
    )
    if held:
        sentence += f"; {held.polygons} more were held out"
    return (*material.parent.contract.training_data, sentence, *(f"replayed: {each}" for each in material.base.sources))


def next_version(version: str) -> str:
    """`1` → `2`; of what is no number a first descendant: `2026a` → `2026a.1`."""
    head, dot, tail = version.rpartition(".")
    return f"{head}{dot}{int(tail) + 1}" if tail.isdecimal() else f"{version}.1"


def _parity_images(material: Material, contract: Contract) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Real pixels for the check of the exported file, all of one size that networks can halve."""
    return np.stack([each.image for each in material.taught.images[:_PARITY_IMAGES]])


def _ended(config: RoundConfig, out: Path) -> Verdict:
    """The verdict of a round that has one; it may have been killed before it was carried out."""
    document = json.loads((out / VERDICT).read_text(encoding="utf-8"))
    if document["promoted"] and not (out / MODEL).exists():
        _promote(document["model"]["name"], out, config.promote_to)
    return verdict_of(document)


def _promote(name: str, out: Path, folder: Path | None) -> None:
    """Copy the candidate to where it is served, and last to where it says that it is."""
    for target in (*((folder / f"{name}.onnx",) if folder else ()), out / MODEL):
        with atomic_path(target) as temporary:
            shutil.copyfile(out / CANDIDATE, temporary)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep any other process on this machine or shared disk from working in `out`.

    A training whose trainer was killed ends a moment later, so it is waited for.

    Raises:
        Conflict: it is being worked in.
    """
    with (out / "lock").open("w", encoding="utf-8") as lock:
        deadline = time.monotonic() + _LOCK_PATIENCE_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise Conflict(f"Another process is at the round in {out}; wait for it, or stop it.") from None
                time.sleep(0.2)
        yield


def _write_json(path: Path, document: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
