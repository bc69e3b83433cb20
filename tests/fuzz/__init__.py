"""Random and mutated bytes, through the codecs and through a running service."""
