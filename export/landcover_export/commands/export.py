"""`landcover export`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landcover_export.checkpoints import Checkpoint

NETWORKS = ("landcover", "openearthmap-b4")
DEFAULT_GSD = (0.4, 1.2)


def export(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "export",
        help="turn a checkpoint into a model to serve",
        description="Write a checkpoint as one ONNX file with its contract: uint8 pixels in, classes and confidence\n"
        "out. The file is checked against torch pixel by pixel and is not left behind when they differ.",
        epilog="a model of landcover train, with figures from a report of landcover evaluate:\n"
        "  landcover export runs/demo/model.pt --name demo --metrics report/report.json --out demo.onnx\n\n"
        "OpenEarthMap's published U-Net (a state dict, keys with or without 'module.'):\n"
        "  landcover export u-efficientnet-b4.pth --network openearthmap-b4 --name oem-b4 \\\n"
        "      --gsd 0.25 0.5 --window 1280 --halo 128 --image my_ortho.tif --out oem-b4.onnx\n\n"
        "weights of 16 bits for a GPU, half the size:\n"
        "  landcover export runs/b4/model.pt --name b4 --precision fp16 --out b4-fp16.onnx\n\n"
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
        metavar=("MIN", "MAX"),
        help=f"metres per pixel it was trained for (what the checkpoint says, else {DEFAULT_GSD[0]} {DEFAULT_GSD[1]})",
    )
    parser.add_argument("--window", type=int, default=896, metavar="PX", help="side of the window it sees (896)")
    parser.add_argument("--halo", type=int, default=192, metavar="PX", help="context cropped on each side (192)")
    parser.add_argument(
        "--precision", choices=("fp32", "fp16"), default="fp32", help="of the weights; fp16 is for GPUs (fp32)"
    )
    parser.add_argument(
        "--metrics", type=Path, metavar="REPORT.json", help="figures of landcover evaluate, for the contract"
    )
    parser.add_argument("--image", type=Path, help="real pixels for the check against torch; a drawn scene otherwise")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from pydantic import ValidationError

    from landcover.contract import Contract, GsdRange
    from landcover.errors import InvalidConfiguration
    from landcover_export.onnx_export import export_onnx, sample_windows

    checkpoint = _checkpoint(arguments)
    metrics = checkpoint.metrics
    if arguments.metrics is not None:
        from landcover_export.evaluation.contracts import metrics_from_report

        metrics = metrics_from_report(arguments.metrics, arguments.checkpoint)
    try:
        gsd = GsdRange(min_m=arguments.gsd[0], max_m=arguments.gsd[1]) if arguments.gsd else checkpoint.gsd
        contract = Contract(
            name=arguments.name,
            version=arguments.version,
            description=arguments.description,
            classes=checkpoint.classes,
            gsd=gsd or GsdRange(min_m=DEFAULT_GSD[0], max_m=DEFAULT_GSD[1]),
            window_px=arguments.window,
            halo_px=arguments.halo,
            architecture=str(checkpoint.config),
            training_data=checkpoint.training_data,
            metrics=metrics,
            precision=arguments.precision,
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


def _checkpoint(arguments: argparse.Namespace) -> Checkpoint:
    import torch

    from landcover.errors import InvalidConfiguration
    from landcover_export.checkpoints import Checkpoint, load_checkpoint
    from landcover_export.networks import OPENEARTHMAP_B4, NetworkConfig, build_network, classes_of

    network = {None: None, "landcover": NetworkConfig(), "openearthmap-b4": OPENEARTHMAP_B4}[arguments.network]
    if not arguments.random:
        return load_checkpoint(arguments.checkpoint, network)
    if network is None:
        raise InvalidConfiguration("Say which network: --random --network " + " | ".join(NETWORKS))
    torch.manual_seed(0)  # so that two precisions of them are of one network
    return Checkpoint(config=network, classes=classes_of(network), network=build_network(network).eval())
