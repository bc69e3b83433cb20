"""Micro-benchmarks of single parts (pytest-benchmark), so that a regression can be placed."""
