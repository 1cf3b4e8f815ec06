"""Faults made on purpose: processes killed, disks full; and what is left of a run."""
