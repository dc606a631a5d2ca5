"""`landcover train`, `landcover evaluate` and `landcover export`; torch is imported only when one of them runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landcover_export.networks import NetworkConfig

NETWORKS = ("landcover", "openearthmap-b4")


def train(subparsers: Any) -> None:
    """Add `landcover train`."""
    parser = subparsers.add_parser(
        "train",
        help="train the demonstration model",
        description="Train a small U-Net on drawn scenes and on labelled tiles. Its accuracy is "
        "measured on scenes that it has not learnt from, and goes into the model's contract.",
        epilog="the shipped model, start to end (about half an hour on two cores):\n"
        "  landcover train --data ../shared/data/dubai --out runs/demo\n"
        "  landcover export runs/demo/model.pt --image ../shared/data/scenes/dubai_tile8.tif \\\n"
        "      --out services/landcover/models/landcover-demo.onnx\n\n"
        "a shorter run with another recipe (runs/demo/config.yaml shows every key):\n"
        "  echo 'steps: 200' > short.yaml\n"
        "  landcover train --data ../shared/data/dubai --out runs/short --config short.yaml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of tileN/images/*.jpg and tileN/labels/*.png")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and the configuration")
    parser.add_argument("--config", type=Path, help="YAML file; what it leaves out is as in the shipped model")
    parser.set_defaults(run=_train)


def evaluate(subparsers: Any) -> None:
    """Add `landcover evaluate`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a model against labels",
        description="Map labelled images block by block, as serving does, and print overall accuracy (OA), average "
        "accuracy (AA: mean recall), mean intersection over union (mIoU) and the confusion matrix. Pixels "
        "labelled 0 are left out; the means are over the classes that the labels hold.",
        epilog="the shipped model on the scenes it has not seen, and on a drawn one:\n"
        "  landcover evaluate runs/demo/model.pt --data ../shared/data/dubai --tiles 1 3\n"
        "  landcover evaluate runs/demo/model.pt --drawn 900",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, help="an ONNX file, or a checkpoint of landcover train")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, help="folder of tileN/images/*.jpg and tileN/labels/*.png")
    what.add_argument("--drawn", type=int, metavar="SEED", help="a scene drawn from this seed, 2048 px square")
    parser.add_argument("--tiles", type=int, nargs="+", default=[1, 3], help="which tiles of --data (1 3)")
    parser.add_argument("--window", type=int, default=896, metavar="PX", help="for a checkpoint (896)")
    parser.add_argument("--halo", type=int, default=192, metavar="PX", help="for a checkpoint (192)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.set_defaults(run=_evaluate)


def export(subparsers: Any) -> None:
    """Add `landcover export`."""
    parser = subparsers.add_parser(
        "export",
        help="turn a checkpoint into a model to serve",
        description="Write a checkpoint as one ONNX file with its contract: uint8 pixels in, classes and confidence "
        "out. The file is checked against torch pixel by pixel and is not left behind when they differ.",
        epilog="a model of landcover train:\n"
        "  landcover export runs/demo/model.pt --out landcover-demo.onnx\n\n"
        "OpenEarthMap's published U-Net (a state dict, keys with or without 'module.'):\n"
        "  landcover export u-efficientnet-b4.pth --network openearthmap-b4 --name oem-b4 \\\n"
        "      --gsd 0.25 0.5 --window 1280 --halo 128 --image my_ortho.tif --out oem-b4.onnx\n\n"
        "the same architecture with random weights, to measure its speed:\n"
        "  landcover export --random --network openearthmap-b4 --name random-b4 --out random-b4.onnx",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("checkpoint", type=Path, nargs="?", help="of landcover train, or a bare state dict")
    source.add_argument("--random", action="store_true", help="random weights, to test an architecture")
    parser.add_argument(
        "--network", choices=NETWORKS, help="of a bare state dict or of --random; our checkpoints know theirs"
    )
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file to write")
    parser.add_argument("--name", default="landcover-demo", help="by which requests ask for it (landcover-demo)")
    parser.add_argument("--version", default="1", help="of the model (1)")
    parser.add_argument("--description", default="", help="one sentence for those who choose a model")
    parser.add_argument("--license", default="Apache-2.0", help="of the weights (Apache-2.0)")
    parser.add_argument(
        "--gsd",
        type=float,
        nargs=2,
        default=(0.4, 1.2),
        metavar=("MIN", "MAX"),
        help="metres per pixel it was trained for (0.4 1.2)",
    )
    parser.add_argument("--window", type=int, default=896, metavar="PX", help="side of the window it sees (896)")
    parser.add_argument("--halo", type=int, default=192, metavar="PX", help="context cropped on each side (192)")
    parser.add_argument("--image", type=Path, help="real pixels for the check against torch; a drawn scene otherwise")
    parser.set_defaults(run=_export)


def _train(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from landcover_export.train import read_config, train

    console = Console()
    checkpoint = train(read_config(arguments.config), arguments.data, arguments.out, console)
    console.print(f"wrote {checkpoint}; next: landcover export {checkpoint} --out MODEL.onnx")
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from landcover_export.data import drawn_scenes, read_tiles
    from landcover_export.evaluate import evaluate_images, load_model, report

    model = load_model(arguments.model, window_px=arguments.window, halo_px=arguments.halo)
    if arguments.drawn is None:
        images = read_tiles(arguments.data, arguments.tiles)
        dataset = f"{arguments.data}, tiles {', '.join(map(str, arguments.tiles))}"
    else:
        images = list(drawn_scenes([arguments.drawn], 2048))
        dataset = f"drawn scene {arguments.drawn}"
    metrics = report(evaluate_images(model, images), model.classes, dataset, Console())
    if arguments.json:
        arguments.json.write_text(metrics.model_dump_json(indent=1))
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from pydantic import ValidationError

    from landcover.contract import Contract, GsdRange
    from landcover.errors import InvalidConfiguration
    from landcover_export.checkpoints import Checkpoint, load_checkpoint
    from landcover_export.networks import build_network, classes_of
    from landcover_export.onnx_export import export_onnx, sample_windows

    network = _network(arguments.network)
    if arguments.random:
        if network is None:
            raise InvalidConfiguration("Say which network: --random --network " + " | ".join(NETWORKS))
        checkpoint = Checkpoint(config=network, network=build_network(network).eval())
    else:
        checkpoint = load_checkpoint(arguments.checkpoint, network)
    try:
        contract = Contract(
            name=arguments.name,
            version=arguments.version,
            description=arguments.description,
            classes=classes_of(checkpoint.config),
            gsd=GsdRange(min_m=arguments.gsd[0], max_m=arguments.gsd[1]),
            window_px=arguments.window,
            halo_px=arguments.halo,
            architecture=str(checkpoint.config),
            training_data=checkpoint.training_data,
            metrics=checkpoint.metrics,
            license=arguments.license,
        )
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, e['loc']))} {e['msg']}".strip() for e in error.errors())
        raise InvalidConfiguration(f"These options make no valid contract: {reasons}") from error
    images = sample_windows(arguments.image, contract.window_px)
    parity = export_onnx(checkpoint.network, checkpoint.config, contract, arguments.out, images)
    print(
        f"wrote {arguments.out} ({arguments.out.stat().st_size / 1e6:.1f} MB); against torch: "
        f"{parity.equal_share:.4%} of {parity.pixels} pixels have the same class, confidence differs by at most "
        f"{parity.max_confidence_difference} of 255"
    )
    return 0


def _network(name: str | None) -> NetworkConfig | None:
    from landcover_export.networks import OPENEARTHMAP_B4, NetworkConfig

    return {None: None, "landcover": NetworkConfig(), "openearthmap-b4": OPENEARTHMAP_B4}[name]
