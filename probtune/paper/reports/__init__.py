"""What a report shows of reproductions."""
