"""Training rows: files -> rows -> text -> token ids, and the choice of trained tokens.

readers    the file formats
hub        questions to the hub before a download
rows       checked rows, each with the place that messages name
prompts    a question as text, the same in training and evaluation
encoding   tokens and labels
"""
