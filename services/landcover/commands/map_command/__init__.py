"""`landcover map`: a scene, or a part of it, into files."""

from landcover.commands.map_command.command import add_parser

__all__ = ["add_parser"]
