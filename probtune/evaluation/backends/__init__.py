"""Models of lm-eval that write every sample as soon as it exists, and draw missing samples only.

session    the samples of a generation, their batches and seeds
hf         transformers, in this process
vllm       vLLM, in this process
server     any OpenAI-compatible completions server
"""
