"""`landcover quantize`. Heavy imports wait until it runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def quantize(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "quantize",
        help="make a model of 8 bits, faster on CPUs",
        description="Write a model of 32 bits once more with 8, for CPUs: about a quarter of the size, and faster,\n"
        "above all in OpenVINO (install landcover-tiles[openvino]). It is calibrated on images like those it will\n"
        "map, and is not left behind if too many pixels change their class. It is another model, with a digest,\n"
        "blocks and figures of its own, and cannot be trained further: keep the original.",
        epilog="calibrate on the images that it learnt from, then measure what was lost:\n"
        "  landcover quantize mine.onnx --image ortho/*.tif --out mine-int8.onnx\n"
        "  landcover evaluate mine.onnx mine-int8.onnx --data my_labels\n\n"
        "keep it if mIoU falls by less than half a point, and have its figures in its contract:\n"
        "  landcover evaluate mine-int8.onnx --data my_labels --write-contract",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, help="the ONNX file, of 32 bits")
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file to write")
    parser.add_argument(
        "--image", type=Path, nargs="+", default=[], help="calibrate on these, three bands of uint8, four windows each"
    )
    parser.add_argument(
        "--drawn",
        type=_seed,
        nargs="+",
        metavar="SEED",
        help="and on scenes drawn from these seeds (three of them where no image is named)",
    )
    parser.add_argument("--name", help="by which requests ask for it (the original's and -int8)")
    parser.set_defaults(run=_run)


def _seed(word: str) -> int:
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number from 0 on")
    return int(word)


def _run(arguments: argparse.Namespace) -> int:
    import logging

    import numpy as np

    from landcover.contract import read_model
    from landcover_export.onnx_export import sample_windows
    from landcover_export.quantization import CALIBRATION_PX, drawn_windows
    from landcover_export.quantization import quantize as write

    logging.getLogger().setLevel(logging.WARNING)  # the quantizer tells of every scale it widens
    model = read_model(arguments.model)
    side_px = min(CALIBRATION_PX, model.contract.window_px)
    seeds = arguments.drawn or ([] if arguments.image else [1000, 1001, 1002])
    windows = [sample_windows(image, side_px) for image in arguments.image]
    if seeds:
        windows.append(drawn_windows(seeds, side_px))
    name = f"{model.name}-int8" if arguments.name is None else arguments.name
    parity = write(model, arguments.out, np.concatenate(windows), name)
    print(
        f"wrote {arguments.out} ({arguments.out.stat().st_size / 1e6:.1f} MB); against {arguments.model}: "
        f"{parity.equal_share:.2%} of {parity.pixels} pixels have the same class, confidence differs by at most "
        f"{parity.max_confidence_difference} of 255"
    )
    return 0
