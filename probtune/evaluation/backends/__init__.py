"""Models of lm-eval that keep every sample as soon as it exists, and draw only what is missing.

session    which samples there are, in which batches, with which seeds
hf         transformers, in this process
vllm       vLLM, in this process
server     any OpenAI-compatible completions server
"""
