"""Report parts of evaluations, comparisons and measurements beside the score."""
