"""A day of load against rules that scale workers: how long people wait, and what the GPUs cost (docs/scaling.md)."""
