"""The choice of an objective on a real language model: SmolLM2-135M, tasks with checkable answers,
wrong rows of several kinds.

tasks      the rows, and which tasks are held out
noise      the kinds of wrong rows, and which are held out
estimates  how right the estimate of wrong rows is after a scout

The trainings of the cells, with several objectives and seeds, are not run yet.
"""
