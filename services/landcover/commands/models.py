"""`landcover models list|show|verify`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from landcover.catalog import load_models
from landcover.contract import read_model
from landcover.settings import CatalogSettings


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "models",
        help="list, show or verify ONNX models",
        description="Look at the models that LANDCOVER_MODELS names (by default the demonstration model).",
    )
    actions = parser.add_subparsers(dest="action", metavar="list|show|verify", required=True)
    listing = actions.add_parser("list", help="name, digest, classes and trained GSD of each model")
    listing.set_defaults(run=_list)
    show = actions.add_parser("show", help="a model's whole contract, as JSON")
    show.add_argument("model", help="name or digest")
    show.set_defaults(run=_show)
    verify = actions.add_parser(
        "verify",
        help="say what is wrong with an ONNX file",
        description="Check that a file keeps its contract: metadata, inputs and outputs, weights inside, no custom\n"
        "operators. Prints its digest and exits with 0, or says what is wrong and exits with 1.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verify.add_argument("file", type=Path)
    verify.add_argument("--digest", metavar="sha256:…", help="the digest it must have")
    verify.set_defaults(run=_verify)


def _list(_: argparse.Namespace) -> None:
    catalog = load_models(CatalogSettings())
    table = Table("name", "version", "classes", "GSD (m)", "block (px)", "digest", box=None)
    for model in catalog.models:
        contract = model.contract
        table.add_row(
            f"{model.name} (default)" if model is catalog.default else model.name,
            contract.version,
            str(len(contract.classes)),
            f"{contract.gsd.min_m:g}–{contract.gsd.max_m:g}",
            f"{contract.block_px} + 2×{contract.halo_px}",
            model.digest,
        )
    Console(width=160).print(table)


def _show(arguments: argparse.Namespace) -> None:
    model = load_models(CatalogSettings()).model(arguments.model)
    document = {"digest": model.digest, "path": str(model.path)} | model.contract.model_dump(mode="json")
    print(json.dumps(document, indent=2, ensure_ascii=False))


def _verify(arguments: argparse.Namespace) -> None:
    model = read_model(arguments.file, expected_digest=arguments.digest)
    contract = model.contract
    print(
        f"{arguments.file} keeps its contract: {contract.name} {contract.version}, {len(contract.classes)} classes, "
        f"{contract.gsd.min_m:g}–{contract.gsd.max_m:g} m, {model.digest}"
    )
