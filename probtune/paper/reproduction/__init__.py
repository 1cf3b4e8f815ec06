"""Reproduction of the paper's cells: as its code ran (faithful), and as it should have run (fair).

backbones    the models
recipe       one YAML file for each cell, read and checked
deviations   differences of the paper's code from the paper, by name
plan         recipe and mode -> runs
cost         GPU hours, memory, disk and answers, with the assumptions
checks       refusals before a plan starts: access, packages, memory, disk
run          one run after another; launch: several at a time, on this machine or on SLURM
judged       answers to instructions, by a judge that the user names
printed      numbers of the paper outside its benchmarks' tables; tables: ours beside them
miniature    the same path with tiny models and example rows
"""
