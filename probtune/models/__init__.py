"""Models: loaded, with our head in their forward pass, and what was stored of them.

loading    a model and its tokenizer; the statistics of every target token
packaged   smollm2-135m, and GGUF files
head       our linear head inside a transformers model's forward
store      log-probabilities of a reference model, in a file
"""
