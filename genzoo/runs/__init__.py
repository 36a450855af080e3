"""What a run leaves on disk: its folder, checkpoints and model card."""
