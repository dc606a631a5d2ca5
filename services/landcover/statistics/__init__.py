"""Areas by class inside polygons: exact on the grid, true on the ground, honest about the map's own errors."""
