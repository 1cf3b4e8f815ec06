"""Graders: a response and a gold answer in, a `Grade` out; no model, no torch.

math_strict      mathematical answers: last box, math-verify in a killable pool
choice           multiple choice: box, letter, option's text, anchored phrase, or no answer
phrase           multiple choice by the phrase that a language ends an answer with
figlet           words read from banners: exact match and Jaro-Winkler similarity
code, judge      programs by their tests; comparisons by a judge
repetition       loops at the end of a response
reference        the graders that equal the paper's code, bugs included
"""
