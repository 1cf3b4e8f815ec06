"""Commands of this wing: their options (`options`) and their work."""
