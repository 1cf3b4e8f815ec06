"""A small causal language model with random weights and a tokenizer trained on a file's text, saved
as a folder that `from_pretrained` loads: something to try `probtune tune` on without a download.

    python examples/tiny_model.py rows.jsonl tiny-model
    probtune tune tiny-model rows.jsonl --prompt-column question --response-column answer

The other programs of this folder take such a model and rows of sums where MODEL and DATA are not
named.
"""

import argparse
import atexit
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    set_seed,
)

from probtune.models.packaged import model_folder

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def texts_of(path: Path) -> Iterator[str]:
    """Every text in the rows of a JSONL file."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield from (value for value in json.loads(line).values() if isinstance(value, str))


def train_tokenizer(path: Path, vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE, the kind that GPT-2, Llama 3 and Qwen use."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts_of(path), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        chat_template=CHAT_TEMPLATE,
    )


def save_tiny_model(
    data: Path,
    out: Path,
    *,
    hidden: int = 192,
    layers: int = 4,
    vocabulary: int = 2048,
    context: int = 512,
    seed: int = 0,
) -> str:
    """Write the model and its tokenizer to `out`; return their sizes as text."""
    set_seed(seed)
    tokenizer = train_tokenizer(data, vocabulary)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens"


def save_sums(path: Path, *, rows: int = 64, turns: bool = False) -> None:
    """Write rows with `prompt` and `completion`, or with `turns` the same as `messages`."""
    with path.open("w", encoding="utf-8") as file:
        for i in range(rows):
            prompt, completion = f"What is {i} + {2 * i}?", f"{i} + {2 * i} = {3 * i}."
            row: dict[str, object] = {"prompt": prompt, "completion": completion}
            if turns:
                user = {"role": "user", "content": prompt}
                row = {"messages": [user, {"role": "assistant", "content": completion}]}
            file.write(json.dumps(row) + "\n")


def model_and_data(*, turns: bool = False) -> tuple[str, str]:
    """Return MODEL and DATA of the command line; without them, a tiny model and rows of sums in a
    temporary folder."""
    named = sys.argv[1:]
    folder = Path(tempfile.mkdtemp(prefix="probtune-example-"))
    atexit.register(shutil.rmtree, folder)
    save_sums(folder / "train.jsonl", turns=turns)
    if not named:
        save_sums(folder / "sums.jsonl")
        save_tiny_model(folder / "sums.jsonl", folder / "model", hidden=64, vocabulary=384)
    model = model_folder(named[0]) if named else str(folder / "model")
    return model, named[1] if len(named) > 1 else str(folder / "train.jsonl")


def load(name: str, data: str, *, rows: int = 16) -> tuple[Any, dict[str, torch.Tensor]]:
    """Return MODEL in float32 and the first rows of DATA as one padded batch: `input_ids`,
    `attention_mask`, and `labels`, which are -100 where a row is padded."""
    tokenizer = AutoTokenizer.from_pretrained(name)
    with open(data, encoding="utf-8") as file:
        examples = [json.loads(line) for line in file][:rows]
    texts = [f"{row['prompt']} {row['completion']}" for row in examples]
    encoded = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
    ids, mask = encoded["input_ids"], encoded["attention_mask"]
    batch = {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}
    return AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32), batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="JSONL file whose texts train the tokenizer")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"{options.out} exists; choose another folder")
    print(f"{options.out}: {save_tiny_model(**vars(options))}")


if __name__ == "__main__":
    main()
