"""The `landcover` subcommands of this package, a module each; heavy imports wait until one runs."""
