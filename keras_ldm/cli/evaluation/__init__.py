"""One run of `keras-ldm evaluate`, from its arguments to its table."""
