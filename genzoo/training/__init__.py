"""Training: the trainer, and what it uses to optimize, log, watch, save and recover a run."""
