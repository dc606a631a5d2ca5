"""Finished maps as files: what they cover, the blocks kept for them while they grow, and how they are written."""
