"""The study: the paper's loop of mapping, annotating the worst, and retraining, on the Dubai set (docs/studies)."""
