"""Held-out measurement of fine-tuned models, and their paired comparison."""
