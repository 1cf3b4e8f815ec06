"""Measurements of `probtune tune` itself: held-out rows, their answers, and models compared on
them.

answers    the short answer in a response, and whether it is right
ends       how a generated answer ends: by its end token, at the limit, in a loop
boxes      the last `\\boxed{…}` of a text
heldout    a model on held-out rows
compare    two models on the same held-out rows, paired
"""
