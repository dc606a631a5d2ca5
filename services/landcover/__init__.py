"""The vocabulary that the API, the worker and the exporter share: scenes, models, grids, blocks, keys.

It depends on no runtime, no web framework and none of the packages that use it.
"""

__version__ = "0.1.0"
