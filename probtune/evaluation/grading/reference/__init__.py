"""Graders that equal the paper's code, its bugs included; the strict ones beside are to believe.

math         mathematics: extraction and batches
spelling     the one spelling that answers are brought to
equality     equality of two such answers, by text, numbers and SymPy
medicine     multiple choice that always names an option
explicit     multiple choice by the clearest mark (OpenBookQA, MMLU-ProX)
figlet       words: exact match and the paper's Jaro-Winkler similarity

Each is written afresh from the behaviour of https://github.com/GaotangLi/Beyond-Log-Likelihood and
compared with that code on generated answers by `benchmarks/paper_graders.py`.
"""
