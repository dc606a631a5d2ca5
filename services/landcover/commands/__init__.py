"""Subcommands that need nothing but the vocabulary."""
