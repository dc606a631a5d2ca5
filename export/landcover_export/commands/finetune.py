"""`landcover finetune` and `landcover trainer`; torch is imported only when one of them works."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from landcover_export.finetuning.config import RoundConfig
    from landcover_export.finetuning.material import Material


def finetune(subparsers: Any) -> None:
    """Add `landcover finetune`."""
    parser = subparsers.add_parser(
        "finetune",
        help="teach a model what was annotated, and promote it if it is better",
        description="Train a model further on annotated polygons, mixed with a share of what it learnt before, and\n"
        "compare it with its parent on data that neither has learnt from. It is promoted (model.onnx) only if it\n"
        "maps the held-out annotations better, and no class falls by more than --bound; otherwise the classes are\n"
        "named. Classes that the model does not have yet are added to it.",
        epilog="exit status: 0 promoted, 3 trained but not promoted, 1 an error, 130 stopped (go on with --resume)\n\n"
        "what would be learnt, with a picture, before any training:\n"
        "  landcover finetune models/mine.onnx --scenes ortho.tif --annotations drawn.gpkg \\\n"
        "      --base runs/mine --out runs/round1 --dry-run\n\n"
        "the round itself, with annotations from the service's database; promoted models are served from models/:\n"
        "  landcover finetune models/mine.onnx --scenes ortho.tif --database sqlite:///landcover.sqlite \\\n"
        "      --base runs/mine --out runs/round1 --promote-to models/\n\n"
        "without the set that the model was trained on: replay drawn scenes, or nothing and let it forget:\n"
        "  landcover finetune mine.onnx --scenes ortho.tif --annotations drawn.geojson --base drawn --out runs/round1\n"
        "  landcover finetune mine.onnx --scenes ortho.tif --annotations drawn.geojson --replay 0 --out runs/round1\n\n"
        "by a trainer (landcover trainer) elsewhere; it must see parent, scenes, base and --out under the same paths:\n"
        "  landcover finetune … --out /shared/runs/round1 --submit\n"
        "  landcover finetune --status JOB",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parent", type=Path, nargs="?", help="an ONNX file of landcover export, or a checkpoint")
    what = parser.add_argument_group("what is learnt")
    what.add_argument(
        "--scenes", nargs="+", metavar="IMAGE", help="the annotated images: files, folders, URLs, catalogues"
    )
    source = what.add_mutually_exclusive_group()
    source.add_argument("--annotations", type=Path, metavar="FILE", help="GeoJSON or GeoPackage")
    source.add_argument(
        "--database", metavar="URL", help="of a service's annotations, such as sqlite:///landcover.sqlite"
    )
    what.add_argument(
        "--base", metavar="SET",
        help="what the parent was trained on: a configuration of landcover train, a run's or a dataset's folder, a "
        "recipe, or 'drawn' for scenes drawn here",
    )  # fmt: skip
    how = parser.add_argument_group("how")
    how.add_argument("--replay", type=float, metavar="SHARE", help="of the crops that come from --base (default: 0.5)")
    how.add_argument("--epochs", type=int, help="(default: 4)")
    how.add_argument("--steps", type=int, help="batches in an epoch (default: 25)")
    how.add_argument("--batch", type=int, help="crops in a batch (default: 6)")
    how.add_argument("--crop", type=int, metavar="PX", help="side of a crop (default: 224)")
    how.add_argument("--learning-rate", type=float, metavar="RATE", help="peak (default: 0.0005)")
    how.add_argument(
        "--ema", type=float, metavar="DECAY",
        help="of the moving average of the weights that is kept; lower it for short rounds (default: 0.96)",
    )  # fmt: skip
    how.add_argument("--threads", type=int, help="torch's on a CPU (default: all cores)")
    how.add_argument("--seed", type=int, help="of the choice of places, the crops and the network's noise (default: 1)")
    gate = parser.add_argument_group("the gate")
    gate.add_argument(
        "--hold-out", type=float, default=0.3, metavar="SHARE",
        help="of the polygons that are never learnt from, in whole places (default: %(default)s)",
    )  # fmt: skip
    gate.add_argument(
        "--bound", type=float, default=0.02, metavar="IOU",
        help="by which no class may fall (default: %(default)s)",
    )  # fmt: skip
    gate.add_argument("--force", action="store_true", help="promote although too little is held out to judge")
    result = parser.add_argument_group("the result")
    result.add_argument("--out", type=Path, metavar="FOLDER", help="for configuration, model, verdict and pictures")
    result.add_argument("--name", help="of the new model (default: the parent's)")
    result.add_argument("--version", help="of the new model (default: the parent's and one more)")
    result.add_argument("--promote-to", type=Path, metavar="FOLDER", help="gets NAME.onnx, too, if it is promoted")
    work = parser.add_argument_group("running")
    work.add_argument(
        "--dry-run", action="store_true", help="show what would be learnt, draw --out/places.png, and stop"
    )
    work.add_argument("--resume", action="store_true", help="go on with the round in --out; it keeps what it was told")
    work.add_argument("--submit", action="store_true", help="leave the round to a trainer, and print the job's id")
    work.add_argument("--status", metavar="JOB", help="of a submitted round; nothing else is done")
    parser.set_defaults(run=_finetune)


def trainer(subparsers: Any) -> None:
    """Add `landcover trainer`."""
    parser = subparsers.add_parser(
        "trainer",
        help="do the rounds that landcover finetune --submit queues",
        description="Take rounds of fine-tuning from the queue 'train', one at a time. Several trainers share them;\n"
        "none takes a round that another is at. A round whose trainer died is resumed from its last epoch by the\n"
        "next one. Stops on SIGTERM or Ctrl-C: the round in hand goes back to the queue.",
        epilog="settings: LANDCOVER_BROKER_URL, and LANDCOVER_TRAINER_LEASE_S, LANDCOVER_TRAINER_MAX_ATTEMPTS\n"
        "The trainer must see every path of a round as the submitter does: use a shared disk.\n\n"
        "  landcover trainer            work\n"
        "  landcover trainer --list     show the rounds and how far they are\n"
        "  landcover trainer --dismiss JOB",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="show all rounds, and stop")
    what.add_argument("--dismiss", metavar="JOB", help="stop a round for good, or take it out of the queue")
    parser.set_defaults(run=_trainer)


def _finetune(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from landcover.errors import InvalidRequest

    console = Console()
    if arguments.status:
        from landcover_export.finetuning.submission import show

        show(arguments.status, console)
        return 0
    if arguments.out is None:
        raise InvalidRequest("Say where the round is kept: --out runs/round1.")
    material = None
    if arguments.resume:
        if arguments.parent or arguments.scenes or arguments.annotations or arguments.database:
            raise InvalidRequest("--resume takes nothing but --out: the round keeps what it was told.")
    else:
        material = _begun(arguments, console)
        if arguments.dry_run:
            return 0
    if arguments.submit:
        from landcover_export.finetuning.submission import submit

        print(submit(arguments.out))
        return 0
    return _work(arguments.out, console, material)


def _begun(arguments: argparse.Namespace, console: Console) -> Material:
    """Check all that the round is told and write it down, unless it is a dry run.

    Raises:
        InvalidRequest: something is missing.
        LandcoverError: something cannot be used; nothing was written.
    """
    from landcover.errors import InvalidRequest
    from landcover_export.finetuning.material import centre, prepare, read_annotations, sources_of
    from landcover_export.finetuning.names import PLACES
    from landcover_export.finetuning.parent import load_parent
    from landcover_export.finetuning.report import print_material
    from landcover_export.finetuning.run import begin, refuse_begun

    if arguments.parent is None or not arguments.scenes or not (arguments.annotations or arguments.database):
        raise InvalidRequest(
            "A round needs a parent, --scenes, and --annotations FILE or --database URL; see landcover finetune --help."
        )
    config = _config(arguments)
    if not arguments.dry_run:
        refuse_begun(arguments.out)
    annotations = read_annotations(
        sources_of(config.scenes),
        load_parent(config.parent).contract.classes,
        file=arguments.annotations,
        database=arguments.database,
    )
    material = prepare(config, annotations, console)
    print_material(material, config, console)
    if arguments.dry_run:
        from landcover_export.finetuning.pictures import draw_places

        arguments.out.mkdir(parents=True, exist_ok=True)
        held_out = [centre(each, material.margin_px) for each in material.held_out.images]
        draw_places(material.taught.images, held_out, material.student.classes, arguments.out / PLACES)
        console.print(f"wrote {arguments.out / PLACES}; nothing was trained")
    else:
        begin(config.model_copy(update={"parent_digest": material.parent.digest}), annotations, arguments.out)
    return material


def _work(out: Path, console: Console, material: Material | None) -> int:
    from landcover_export.finetuning.names import CANDIDATE, COMPARISON, MODEL, NOT_PROMOTED
    from landcover_export.finetuning.report import print_verdict
    from landcover_export.finetuning.run import run_round

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        verdict = run_round(out, console, material)
    except KeyboardInterrupt:
        console.print(f"stopped; go on with: landcover finetune --resume --out {out}")
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    print_verdict(verdict, console)
    console.print(f"wrote {out / (MODEL if verdict.promoted else CANDIDATE)}; look at {out / COMPARISON}")
    return 0 if verdict.promoted else NOT_PROMOTED


def _config(arguments: argparse.Namespace) -> RoundConfig:
    from pydantic import ValidationError

    from landcover.errors import InvalidConfiguration
    from landcover_export.finetuning.config import RoundConfig
    from landcover_export.finetuning.core import FinetuneConfig

    given = {
        "replay": arguments.replay,
        "epochs": arguments.epochs,
        "steps_per_epoch": arguments.steps,
        "batch": arguments.batch,
        "crop_px": arguments.crop,
        "learning_rate": arguments.learning_rate,
        "ema_decay": arguments.ema,
        "threads": arguments.threads,
        "seed": arguments.seed,
    }
    try:
        return RoundConfig(
            training=FinetuneConfig.model_validate({name: value for name, value in given.items() if value is not None}),
            parent=arguments.parent.expanduser().absolute(),
            scenes=tuple(_absolute(each) for each in arguments.scenes),
            base=_absolute(arguments.base) if arguments.base else None,
            hold_out=arguments.hold_out,
            bound=arguments.bound,
            force=arguments.force,
            name=arguments.name,
            version=arguments.version,
            promote_to=arguments.promote_to.expanduser().absolute() if arguments.promote_to else None,
        )
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise InvalidConfiguration(f"These options make no round: {reasons}.") from error


def _absolute(location: str) -> str:
    """A path that means the same wherever the round is resumed; names and URLs as they are."""
    path = Path(location).expanduser()
    return str(path.absolute()) if path.exists() else location


def _trainer(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    if arguments.list or arguments.dismiss:
        from landcover_export.finetuning.submission import dismiss, list_jobs

        if arguments.dismiss:
            dismiss(arguments.dismiss)
        list_jobs(Console())
        return 0
    from landcover_export.finetuning.service import run

    return run()
