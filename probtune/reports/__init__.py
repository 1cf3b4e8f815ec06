"""Records -> one self-contained HTML file. Knows records and nothing else of ours, so it needs no
torch.
"""
