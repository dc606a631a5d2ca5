"""Alembic's folder: `env.py`, and one file under `versions/` for each change of the tables."""
