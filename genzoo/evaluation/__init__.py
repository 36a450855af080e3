"""Evaluation: protocols by name, what is scored, feature extractors, and the lines of a results file."""
