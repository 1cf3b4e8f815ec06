"""Benchmarks: one small module each, and their table in `table`."""
