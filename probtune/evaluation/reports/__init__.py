"""What a report shows of evaluations, comparisons and measurements beside the score."""
