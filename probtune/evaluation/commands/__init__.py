"""The commands of this wing: what they take (`options`) and what they do."""
