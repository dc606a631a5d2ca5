"""Training: configuration, random crops, the Lightning module, and a run from data to a measured checkpoint."""
