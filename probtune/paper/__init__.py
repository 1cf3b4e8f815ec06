"""Experiments of the paper: its training sets, its cells as recipes, and their reproduction."""
