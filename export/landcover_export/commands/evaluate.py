"""`landcover evaluate`: any number of models against labels. Heavy imports wait until it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landcover.classes import LandCoverClass
    from landcover_export.labelled import LabelledImage, LabelledPair

DRAWN_SIDE_PX = 2048
LEAST_DRAWN_SIDE_PX = 1024


def evaluate(subparsers: Any) -> None:
    """Add `landcover evaluate`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure and compare models against labels",
        description="Map labelled images block by block, as serving does, and measure every model: overall accuracy\n"
        "(OA), average accuracy (AA: mean recall), mean intersection over union (mIoU), F1, each class and the\n"
        "confusion matrix, all with 95 % intervals; with several models also their differences. Pixels labelled 0\n"
        "are left out; the means are over the classes that the labels hold. Labels are checked before anything is\n"
        "mapped.",
        epilog="one model, tables on the terminal:\n"
        "  landcover evaluate landcover-demo.onnx --data ../shared/data/dubai --groups tile1 tile3\n\n"
        "a model before and after fine-tuning, as a page with pictures and as JSON:\n"
        "  landcover evaluate before.onnx after.onnx --data my_labels --out report\n"
        "  open report/report.html\n\n"
        "OpenEarthMap's validation list, and a checkpoint with its window:\n"
        "  landcover evaluate runs/b4/best.pt --window 1280 --halo 128 --data OpenEarthMap --split val.txt\n\n"
        "labels with numbers of their own (0 leaves pixels out):\n"
        "  landcover evaluate m.onnx --image ortho.tif --label ortho_labels.tif --classes 10=5 20=4 255=0\n\n"
        "real and drawn ground together, the figures into the contract of the file itself:\n"
        "  landcover evaluate demo.onnx --data ../shared/data/dubai --tiles 1 3 --drawn 900 --write-contract\n\n"
        "the figures of a checkpoint into the contract of the model that is made of it:\n"
        "  landcover evaluate runs/demo/best.pt --data my_labels --json report.json\n"
        "  landcover export runs/demo/best.pt --metrics report.json --out demo.onnx",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "models", type=Path, nargs="+", metavar="MODEL", help="ONNX files or checkpoints; the first is the baseline"
    )
    data = parser.add_argument_group("what to measure on")
    what = data.add_mutually_exclusive_group()
    what.add_argument("--data", type=Path, metavar="ROOT", help="holds images/ and labels/, or folders that do")
    what.add_argument("--image", type=Path, metavar="FILE", help="one image; its label is --label")
    data.add_argument(
        "--drawn", type=_count, nargs="+", metavar="SEED", help="scenes drawn from these seeds, alone or besides files"
    )
    data.add_argument(
        "--drawn-side", type=_count, default=DRAWN_SIDE_PX, metavar="PX", help=f"of drawn scenes ({DRAWN_SIDE_PX})"
    )
    data.add_argument("--label", type=Path, metavar="FILE", help="class values of --image, one byte a pixel")
    which = data.add_mutually_exclusive_group()
    which.add_argument("--groups", nargs="+", metavar="FOLDER", help="only these folders of --data")
    which.add_argument("--tiles", type=int, nargs="+", metavar="N", help="the same as --groups tileN …")
    which.add_argument("--split", type=Path, metavar="LIST", help="only the images this text file names, one a line")
    data.add_argument(
        "--classes", nargs="+", type=_pair, metavar="LABEL=CLASS", help="class of each label value; 0 leaves it out"
    )
    data.add_argument("--dataset", metavar="TEXT", help="what reports and contracts call the data")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--window", type=int, default=896, metavar="PX", help="of checkpoints (896); ONNX files know theirs"
    )
    how.add_argument("--halo", type=int, default=192, metavar="PX", help="of checkpoints (192); ONNX files know theirs")
    how.add_argument(
        "--scale",
        type=_positive,
        default=1.0,
        metavar="FACTOR",
        help="resample images before mapping them, 0.5 to half the pixels a side, and the map back (1)",
    )
    how.add_argument("--bootstrap", type=_count, default=1000, metavar="N", help="resamples for the intervals (1000)")
    how.add_argument(
        "--cluster", type=_count, default=512, metavar="PX", help="side of the resampled windows, 0: whole images (512)"
    )
    how.add_argument("--seed", type=_count, default=0, help="of the resampling (0)")
    out = parser.add_argument_group("what to write, besides the tables on the terminal")
    out.add_argument("--out", type=Path, metavar="FOLDER", help="report.html, report.json and pictures/")
    out.add_argument("--json", type=Path, metavar="FILE", help="report.json alone")
    out.add_argument("--pictures", type=_count, default=6, metavar="N", help="images shown in report.html (6)")
    out.add_argument(
        "--write-contract",
        action="store_true",
        help="put the figures into the contract of the one ONNX file that is measured: its digest changes",
    )

    def run(arguments: argparse.Namespace) -> int:
        if arguments.data is None and arguments.image is None and not arguments.drawn:
            parser.error("say what to measure on: --data, --image or --drawn")
        if arguments.write_contract and (len(arguments.models) > 1 or arguments.models[0].suffix != ".onnx"):
            parser.error("--write-contract writes into one ONNX file; name that alone")
        return _evaluate(arguments)

    parser.set_defaults(run=run)


def _evaluate(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from landcover_export.evaluation.contracts import write_metrics
    from landcover_export.evaluation.evaluate import evaluate_windows
    from landcover_export.evaluation.gallery import Gallery
    from landcover_export.evaluation.models import load_models, union_of_classes
    from landcover_export.evaluation.page import write_page
    from landcover_export.evaluation.report import make_report, write_report
    from landcover_export.evaluation.tables import print_report

    labelled = _labelled(arguments)
    _prepare(arguments.out, arguments.json)
    models = load_models(arguments.models, window_px=arguments.window, halo_px=arguments.halo, scale=arguments.scale)
    classes = union_of_classes(models)
    labelled.check(classes)
    gallery = None
    if arguments.out is not None:
        names = [each.name for each in models]
        gallery = Gallery(names, classes, images=labelled.count, shown_images=arguments.pictures)
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"mapping {labelled.count} image(s)", total=labelled.count * len(models))
        evaluation = evaluate_windows(
            models,
            labelled.images(),
            classes=classes,
            cluster_px=arguments.cluster or None,
            observe=gallery,
            on_progress=lambda share: progress.advance(task, share),
        )
    report = make_report(
        evaluation,
        models,
        dataset=labelled.dataset,
        cluster_px=arguments.cluster or None,
        replicates=arguments.bootstrap,
        seed=arguments.seed,
    )
    print_report(report, console)
    if gallery is not None:
        write_report(report, arguments.out / "report.json")
        write_page(report, gallery, arguments.out / "report.html")
        console.print(f"wrote {arguments.out / 'report.html'}", highlight=False, soft_wrap=True)
    if arguments.json is not None:
        write_report(report, arguments.json)
    if arguments.write_contract:
        digest = write_metrics(report, arguments.models[0])
        console.print(f"wrote the figures into {arguments.models[0]}, now {digest}", highlight=False, soft_wrap=True)
    return 0


@dataclass(frozen=True, kw_only=True)
class _Labelled:
    """What to measure on: files, drawn scenes, or both."""

    dataset: str
    pairs: Sequence[LabelledPair] = ()
    seeds: Sequence[int] = ()
    side_px: int = DRAWN_SIDE_PX

    @property
    def count(self) -> int:
        return len(self.pairs) + len(self.seeds)

    def images(self) -> Iterator[LabelledImage]:
        """One after another, none kept."""
        from landcover.demo import draw
        from landcover_export.labelled import LabelledImage

        yield from (pair.read() for pair in self.pairs)
        for seed in self.seeds:
            image, label = draw(seed, self.side_px, self.side_px)
            yield LabelledImage(name=f"drawn-{seed}", image=image, label=label, group="drawn" if self.pairs else "")

    def check(self, classes: Sequence[LandCoverClass]) -> None:
        """Read all labels, which is quick, before the first image is mapped, which is not.

        Raises:
            DataError: a label holds a value that no model knows, or none is labelled at all.
        """
        from landcover_export.labelled import DataError, count_classes

        pixels = count_classes(self.pairs, [each.value for each in classes])
        if not self.seeds and not pixels[1:].any():
            raise DataError(
                f"No pixel of {self.dataset} is labelled (0 means unlabelled), so that there is nothing to measure on."
            )


def _labelled(arguments: argparse.Namespace) -> _Labelled:
    from landcover_export.labelled import DataError

    if (arguments.label is None) != (arguments.image is None):
        raise DataError("An image and its label belong together: give --image FILE and --label FILE.")
    if arguments.data is None and (arguments.groups or arguments.tiles or arguments.split):
        raise DataError("--groups, --tiles and --split choose among the images of --data ROOT; give that too.")
    if arguments.drawn and arguments.drawn_side < LEAST_DRAWN_SIDE_PX:
        raise DataError(f"Drawn scenes have all classes from --drawn-side {LEAST_DRAWN_SIDE_PX} on.")
    name, pairs = _files(arguments)
    seeds = tuple(dict.fromkeys(arguments.drawn or ()))
    names = [name] if name else []
    if seeds:
        names.append(f"drawn scene{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}")
    return _Labelled(
        dataset=arguments.dataset or " and ".join(names), pairs=pairs, seeds=seeds, side_px=arguments.drawn_side
    )


def _files(arguments: argparse.Namespace) -> tuple[str, Sequence[LabelledPair]]:
    """Labelled files and what to call them, if any are named."""
    from landcover_export.labelled import find_set, open_pair

    classes: Mapping[int, int] | None = dict(arguments.classes) if arguments.classes else None
    if arguments.image is not None:
        return arguments.image.name, [open_pair(arguments.image, arguments.label, classes=classes)]
    if arguments.data is None:
        return "", []
    groups = [f"tile{number}" for number in arguments.tiles] if arguments.tiles else arguments.groups
    found = find_set(arguments.data, groups=groups, split=arguments.split, classes=classes)
    if found.missing:
        print(
            f"landcover: {len(found.missing)} of the names in {arguments.split} have no files in {arguments.data} "
            f"({', '.join(found.missing[:3])}, …) and are left out.",
            file=sys.stderr,
        )
    chosen = ", ".join(groups) if groups else arguments.split.name if arguments.split else "all of it"
    return f"{arguments.data.resolve().name} ({chosen})", found.pairs


def _prepare(folder: Path | None, json: Path | None) -> None:
    """Find out that a report cannot be written before the time to make it is spent."""
    from landcover_export.labelled import DataError

    for each in (folder, json.parent if json else None):
        try:
            if each is not None:
                each.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"No report can be written to {each} ({error.strerror}); name another folder.") from error


def _pair(text: str) -> tuple[int, int]:
    label, separator, value = text.partition("=")
    if not (separator and label.isdecimal() and value.isdecimal() and int(label) < 256 and int(value) < 255):
        raise argparse.ArgumentTypeError(f"'{text}' is not LABEL=CLASS with numbers of one byte, such as 10=5")
    return int(label), int(value)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is no number from 0")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 16:
        raise argparse.ArgumentTypeError(f"'{text}' is no factor between 0 and 16")
    return value
