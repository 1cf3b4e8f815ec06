"""What each command of the command line does: call one function, print a table, name the record.

tuning          tune, train, probe, objectives, report, demo
evaluation      eval, compare
beyond          forgetting, calibration, diversity, drift, judge; their options in beyond_options
corpora         prepare
reproduction    reproduce
theory          theory and its questions

A module is imported when its command runs.
"""
