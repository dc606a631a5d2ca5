"""The HTTP service: XYZ tiles, statistics and a map of land cover. It never runs a network itself."""
