"""The choice of an objective on a real language model: SmolLM2-135M, tasks with checkable answers,
wrong rows of several kinds. Run by `python -m benchmarks.choice.real`; see its --help.

tasks     the rows, and which tasks are held out
noise     the kinds of wrong rows, and which are held out
"""
