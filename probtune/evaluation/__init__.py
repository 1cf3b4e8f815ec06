"""Evaluation of any language model: benchmarks, comparison, calibration, forgetting, drift."""
