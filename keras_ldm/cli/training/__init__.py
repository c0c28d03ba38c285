"""What `keras-ldm train` does, in parts."""
