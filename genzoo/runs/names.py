"""Names of the files in a run folder. Nothing is imported here, so that a command looks for them at once."""

CONFIG = "run.json"
LOG = "log.jsonl"
EVENTS = "events.jsonl"
CHECKPOINTS = "checkpoints"
MODEL = "model"
