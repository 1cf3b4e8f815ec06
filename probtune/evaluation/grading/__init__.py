"""Graders: a response and a gold answer in, a `Grade` out; no model, no torch.

boxes            the last `\\boxed{…}` of a text
math_strict      mathematical answers: last box, math-verify in a killable pool
math_reference   mathematical answers as the paper's code grades them, its bugs included
choice           multiple choice, strict and as the paper's code
figlet           words read from banners: exact match and Jaro-Winkler similarity
repetition       whether a response ends in a loop
"""
