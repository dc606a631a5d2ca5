"""Many images as one scene: what a mosaic's images are, how they share one grid, how windows cross borders."""
