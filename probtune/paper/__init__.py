"""The paper's experiments: its training sets, its cells as recipes, and their reproduction."""
