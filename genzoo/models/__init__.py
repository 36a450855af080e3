"""Models: bases that all of them share, and one package per model, which the registry lists by its folder."""
