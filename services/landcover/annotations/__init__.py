"""Annotations: polygons that people draw over a scene and give a class, and where they are kept.

Needs SQLAlchemy, Alembic and shapely (extras `api` and `export`); GeoPackage needs pyogrio too. The rest of
`landcover` never imports this package, so that the worker and `landcover --help` do without them.
"""

from landcover.annotations.files import read_features
from landcover.annotations.model import Annotation
from landcover.annotations.store import AnnotationStore

__all__ = ["Annotation", "AnnotationStore", "read_features"]
