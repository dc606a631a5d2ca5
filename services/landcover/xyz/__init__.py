"""XYZ imagery services as scenes: tiles of one zoom of an origin server, treated as one image."""
