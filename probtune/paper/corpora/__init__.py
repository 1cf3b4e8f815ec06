"""Training sets of the paper's domains: from their source to rows, with a manifest.

base            the training set; one small module for each domain's
table           their names, and the text that names one with options
preparing       rows and manifest; sources, hub, rows, lengths and noise are its steps
contamination   n-grams that training rows share with benchmarks' questions
locating        the cache, and `data: corpus:NAME` in settings
"""

from .base import Corpus, Dropped, Noise, Part, Take
from .locating import locate, resolve
from .preparing import Manifest, prepare
from .table import CORPORA, DOMAINS, corpus

__all__ = [
    "CORPORA",
    "DOMAINS",
    "Corpus",
    "Dropped",
    "Manifest",
    "Noise",
    "Part",
    "Take",
    "corpus",
    "locate",
    "prepare",
    "resolve",
]
