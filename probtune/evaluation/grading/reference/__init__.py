"""Graders that equal the paper's code, its bugs included; the strict ones beside are to believe."""
