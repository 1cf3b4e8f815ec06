"""The test bench for choices: which objective, for which model and data.

python -m benchmarks.choice              # run the grid; resumes where it stopped
python -m benchmarks.choice --summary    # the committed table's summary, in seconds
"""
