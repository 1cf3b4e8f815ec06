"""Report parts of reproductions."""
