"""Pure functions of tensors, and the metrics made of them, one decorated function each (see `registry`)."""
