"""Models: loading and generation, our head in their forward pass, and stored log-probabilities.

loading     a model and its tokenizer; the statistics of every target token
adapters    folders with a LoRA adapter as models
packaged    smollm2-135m, and GGUF files
card        the README.md of a fine-tuned model
generation  greedy texts, and responses drawn from the model's distribution
head        our linear head inside a transformers model's forward
store       log-probabilities of a reference model, in a file
"""
