"""`landcover train`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def train(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "train",
        help="train a network on labelled images",
        description="Train a segmentation network as a YAML configuration or a shipped recipe says. All that can\n"
        "be wrong with data and configuration is said before the first step. After every epoch the run is saved: a\n"
        "training that was killed goes on with --resume as if nothing had happened.",
        epilog="recipes: openearthmap (U-Net-EfficientNet-B4, scSE), demo (a small one, to be measured),\n"
        "  demo-shipped (the model that comes with the package)\n\n"
        "OpenEarthMap, in its own layout (region/{images,labels}/region_N.tif, split lists):\n"
        "  landcover train openearthmap --set data.0.root=/data/OpenEarthMap --out runs/b4\n\n"
        "your own folders of images/ and labels/ (a byte a pixel), from a file of your own:\n"
        "  cat > mine.yaml <<'END'\n"
        "  data:\n"
        "    - root: /data/mine            # images/ and labels/, or folders that hold them\n"
        "      train: [north, south]       # folder names, or a text file with an image a line\n"
        "      validate: [east]\n"
        "      classes: {10: 8, 20: 4}     # label value: class value; 0 leaves pixels out\n"
        "      gsd_m: 0.3                  # metres per pixel, if the files do not say\n"
        "  network: {architecture: Unet, encoder: resnet34}\n"
        "  END\n"
        "  landcover train mine.yaml --out runs/mine --set epochs=40 batch=16\n\n"
        "then: landcover evaluate runs/mine/model.pt --data /data/mine --groups east --out report/\n"
        "      landcover export runs/mine/model.pt --name mine --out mine.onnx\n"
        "curves live: tensorboard --logdir runs   (every key of a configuration: runs/mine/config.yaml)",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", help="a YAML file, or the name of a recipe")
    parser.add_argument(
        "--out", type=Path, required=True, help="the run's folder: checkpoints, curves, pictures, model"
    )
    parser.add_argument(
        "--set",
        dest="settings",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="change what the configuration says, such as epochs=5 or data.0.root=DIR",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--check", action="store_true", help="look at configuration and data, and stop before training")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from landcover_export.training.config import dump_config, read_config

    console = Console()
    config = read_config(arguments.config, arguments.settings)
    if arguments.check:
        from landcover_export.training.data import load_data

        data = load_data(config, console)
        console.print(dump_config(config), markup=False, highlight=False)
        for pool in data.train:
            console.print(f"{len(pool.images)} images, {pool.zoom[0]:.2f} to {pool.zoom[1]:.2f} image pixels per pixel")
        for each in config.classes:
            console.print(f"{each.value:3d} {each.name}: {data.shares[each.value]:.2%} of the labelled pixels")
        return 0
    from landcover_export.training.run import train as run_training

    try:
        result = run_training(config, arguments.out, console, resume=arguments.resume)
    except KeyboardInterrupt:
        run = arguments.out
        console.print(f"stopped; go on with: landcover train {run}/config.yaml --out {run} --resume", soft_wrap=True)
        return 130
    console.print(f"wrote {result.checkpoint}; next: landcover export {result.checkpoint} --name NAME --out NAME.onnx")
    return 0
