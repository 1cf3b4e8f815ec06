"""Training rows: files -> rows -> text -> token ids, and which tokens are trained on.

readers    the file formats
rows       rows, checked, with their place
prompts    how a question becomes text, the same in training and evaluation
encoding   tokens and labels
"""
