"""The commands of the core, and what the wings' commands need of other parts. Only this package and
`cli` see everything.

options       what each command of the core takes
tuning        tune, train, probe, report, demo
objectives    objectives
theory        theory and its questions
evaluation    eval, compare, forgetting, calibration: with recipes and `corpus:NAME`

A module is imported when its command runs: it calls one function, prints a table and says where the
record is.
"""
