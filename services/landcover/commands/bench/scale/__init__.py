"""`landcover bench scale`: what coordinates a job, without the work: networks that sleep, blocks of nothing."""
