"""`landcover bench`: what the product costs, each figure a ratio to a floor measured in the same run."""

from landcover.commands.bench.command import add_parser

__all__ = ["add_parser"]
