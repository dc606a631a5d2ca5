"""Many images as one scene: what a mosaic's images are, how they share one grid, and how windows cross their borders."""
