"""`landcover stats`: land cover statistics of the polygons in a file, asked of a service over HTTP."""

from landcover_api.stats_command.command import stats

__all__ = ["stats"]
