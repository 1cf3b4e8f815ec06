"""The benchmarks: one small module each, and the table of them in `table`."""
