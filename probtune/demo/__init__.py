"""`probtune demo`: the model-capability continuum on a laptop's CPU, offline, in minutes."""
