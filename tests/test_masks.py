"""The one mask rule over every chat template that TRL ships: decoded masks, ⟦ ⟧ around what is
supervised, against expectations that were written by hand from the templates.
"""

import json
import re
from pathlib import Path

import helpers
import pytest
import trl
from test_encoding import byte_tokenizer

from probtune.data.encoding import encode
from probtune.data.rows import rows_from
from probtune.errors import DataError

TEMPLATES = {
    path.stem: path.read_text()
    for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
}
TURNS = [
    {"role": "user", "content": "Q one"},
    {"role": "assistant", "content": "A one."},
    {"role": "user", "content": "Q two"},
    {"role": "assistant", "content": "A two."},
]

# From the first question on; the headers before it are never supervised.
CHATML = (
    "Q one<|im_end|>\n<|im_start|>assistant\n⟦A one.<|im_end|>⟧\n"
    "<|im_start|>user\nQ two<|im_end|>\n<|im_start|>assistant\n⟦A two.<|im_end|>⟧\n"
)
THOUGHT = (  # the model writes an empty thought itself
    "Q one<|im_end|>\n<|im_start|>assistant\n⟦<think>\n\n</think>\n\nA one.<|im_end|>⟧\n"
    "<|im_start|>user\nQ two<|im_end|>\n<|im_start|>assistant\n"
    "⟦<think>\n\n</think>\n\nA two.<|im_end|>⟧\n"
)
OPENED = (  # the generation prompt opens the thought
    "Q one<|im_end|>\n<|im_start|>assistant\n<think>\n⟦\n</think>\n\nA one.<|im_end|>⟧\n"
    "<|im_start|>user\nQ two<|im_end|>\n<|im_start|>assistant\n"
    "<think>\n⟦\n</think>\n\nA two.<|im_end|>⟧\n"
)
SKIPPED = (  # the generation prompt writes the empty thought
    "Q one<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n⟦A one.<|im_end|>⟧\n"
    "<|im_start|>user\nQ two<|im_end|>\n<|im_start|>assistant\n"
    "<think>\n\n</think>\n\n⟦A two.<|im_end|>⟧\n"
)
NEMOTRON = (
    "Q one<|im_end|>\n<|im_start|>assistant\n<think>⟦</think>A one.<|im_end|>⟧\n"
    "<|im_start|>user\nQ two<|im_end|>\n<|im_start|>assistant\n<think>⟦</think>A two.<|im_end|>⟧\n"
)
LLAMA = (
    "Q one<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n⟦A one.<|eot_id|>⟧"
    "<|start_header_id|>user<|end_header_id|>\n\nQ two<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n⟦A two.<|eot_id|>⟧"
)
COHERE = (
    "Q one<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"
    "⟦A one.<|END_OF_TURN_TOKEN|>⟧<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Q two<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>⟦A two.<|END_OF_TURN_TOKEN|>⟧"
)
COHERE2 = (
    "Q one<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>"
    "⟦A one.<|END_RESPONSE|><|END_OF_TURN_TOKEN|>⟧"
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Q two<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>"
    "⟦A two.<|END_RESPONSE|><|END_OF_TURN_TOKEN|>⟧"
)
DEEPSEEK = (
    "Q one<｜Assistant｜>⟦A one.<｜end▁of▁sentence｜>⟧"
    "<｜User｜>Q two<｜Assistant｜>⟦A two.<｜end▁of▁sentence｜>⟧"
)
GEMMA = (
    "Q one<end_of_turn>\n<start_of_turn>model\n⟦A one.<end_of_turn>⟧\n"
    "<start_of_turn>user\nQ two<end_of_turn>\n<start_of_turn>model\n⟦A two.<end_of_turn>⟧\n"
)
GEMMA4 = (
    "Q one<turn|>\n<|turn>model\n⟦A one.<turn|>⟧\n"
    "<|turn>user\nQ two<turn|>\n<|turn>model\n⟦A two.<turn|>⟧\n"
)
GLM = (  # its turns have no end of their own: the next turn's header ends them
    "Q one<|assistant|>⟦\n<think></think>\nA one.<|user|>⟧"
    "\nQ two<|assistant|>⟦\n<think></think>\nA two.<|user|>⟧"
)
GPTOSS = (
    "Q one<|end|><|start|>assistant⟦<|channel|>final<|message|>A one.<|end|>⟧"
    "<|start|>user<|message|>Q two<|end|>"
    "<|start|>assistant⟦<|channel|>final<|message|>A two.<|return|>⟧"
)
IDEFICS = (
    "Q one<end_of_utterance>\nAssistant:⟦ A one.<end_of_utterance>⟧\n"
    "User: Q two<end_of_utterance>\nAssistant:⟦ A two.<end_of_utterance>⟧\n"
)
LLAVA = "Q one [/INST]⟦ A one.</s>⟧ [INST] Q two [/INST]⟦ A two.</s>⟧ "
MUSE = (
    "Q one<|eot|><|start|>assistant⟦ to=user<|message|>A one.<|eot|>⟧"
    "<|start|>user<|message|>Q two<|eot|><|start|>assistant⟦ to=user<|message|>A two.<|eot|>⟧"
)
PHI = (  # the end of the whole text is written after the turn's end, where nobody generates
    "Q one<|end|>\n<|assistant|>\n⟦A one.<|end|>⟧\n"
    "<|user|>\nQ two<|end|>\n<|assistant|>\n⟦A two.<|end|>⟧\n<|endoftext|>"
)
EXPECTED = {
    "cohere": COHERE,
    "cohere2": COHERE2,
    "deepseek_r1_distill": DEEPSEEK,
    "deepseekv3": DEEPSEEK,
    "diffusion_gemma": GEMMA4,
    "gemma": GEMMA,
    "gemma3": GEMMA,
    **dict.fromkeys(("gemma4", "gemma4_v2", "gemma4_v3", "gemma4_v4", "gemma4_v5"), GEMMA4),
    "glm4moe": GLM,
    "gptoss": GPTOSS,
    "idefics3": IDEFICS,
    **dict.fromkeys(("lfm2", "lfm2_v2", "lfm2_2_5", "lfm2_2_5_v2", "lfm2_2_5_vl"), CHATML),
    **dict.fromkeys(("llama3", "llama3_1", "llama3_2"), LLAMA),
    "llava_next": LLAVA,
    "muse_glimmer": MUSE,
    "nemotron_3_nano": NEMOTRON,
    "nemotron_3_super": NEMOTRON,
    "nemotron_3_ultra": NEMOTRON,
    "nemotron_3_5_lightning": NEMOTRON,
    "phi3": PHI,
    "phi3_5": PHI,
    **dict.fromkeys(("qwen2_5", "qwen2_5_vl", "qwen3_vl", "qwen3_instruct_2507"), CHATML),
    "qwen3": THOUGHT,
    "qwen3_5_nothink": SKIPPED,
    "qwen3_5_think": OPENED,
    "qwen3_6": OPENED,
    "qwen3_8": OPENED,
    "smolvlm": IDEFICS,
}

_SPECIAL = re.compile(
    r"<[|｜][^<>{}'\"\s]*?[|｜]>|<(?:start|end)_of_turn>|</?think>|<end_of_utterance>|</s>"
    r"|<turn\|>|<\|turn>|<\|channel>|<channel\|>|\[gMASK\]|<sop>"
)


def tokenizer_of(name):
    """A byte tokenizer with the template and the special tokens that stand in it."""
    special = {token for token in _SPECIAL.findall(TEMPLATES[name]) if "tool_resp" not in token}
    return byte_tokenizer(template=TEMPLATES[name], extra=sorted(special), bos="<|begin_of_text|>")


def decoded(tokenizer, row):
    """The row as text, with ⟦ ⟧ around what is supervised."""
    text, open_ = "", False
    for token, label in zip(row.input_ids.tolist(), row.labels.tolist(), strict=True):
        assert label in (-100, token)
        if (label != -100) != open_:
            open_ = not open_
            text += "⟦" if open_ else "⟧"
        text += tokenizer.decode([token])
    return text + "⟧" * open_


def encoded(tokenizer, rows, **options):
    examples = rows_from(((f"row {i}", row) for i, row in enumerate(rows)), source="x").examples
    return encode(examples, tokenizer, max_length=9999, **options)


def test_every_shipped_template_has_an_expectation():
    assert {name.removesuffix("_training") for name in TEMPLATES} <= set(EXPECTED)


@pytest.mark.parametrize("name", TEMPLATES)
def test_turns_are_supervised_from_where_generation_begins_to_their_end(name):
    tokenizer = tokenizer_of(name)
    (row,) = encoded(tokenizer, [{"messages": TURNS}]).rows
    text = decoded(tokenizer, row)
    begin = text.index("Q one")
    assert text[begin:] == EXPECTED[name.removesuffix("_training")]
    assert "⟦" not in text[:begin]
    assert row.end == row.labels[row.labels != -100][-1]  # generation stops where turns end


@pytest.mark.parametrize("name", TEMPLATES)
def test_turns_of_a_prompt_are_context(name):
    """The same text; only the completion is supervised, whatever the template writes into it."""
    tokenizer = tokenizer_of(name)
    (row,) = encoded(tokenizer, [{"prompt": TURNS[:3], "completion": TURNS[3:]}]).rows
    text = decoded(tokenizer, row)
    expected = EXPECTED[name.removesuffix("_training")]
    context = expected.replace("⟦", "", 1).replace("⟧", "", 1)
    assert text[text.index("Q one") :] == context


QUESTION, ANSWER = "What is 2 * 3?", "It is 6."
USER, ASSISTANT = (
    {"role": "user", "content": QUESTION},
    {"role": "assistant", "content": ANSWER},
)
FORMS = {
    "messages": ({"messages": [USER, ASSISTANT]}, False),
    "texts, --chat": ({"prompt": QUESTION, "completion": ANSWER}, True),
    "lists": ({"prompt": [USER], "completion": [ASSISTANT]}, False),
    "a text and a list": ({"prompt": QUESTION, "completion": [ASSISTANT]}, False),
    "messages beside": (
        {"prompt": QUESTION, "completion": ANSWER, "messages": [USER, ASSISTANT]},
        True,
    ),
    "prompt beside": ({"prompt": QUESTION, "prompt_id": "7", "messages": [USER, ASSISTANT]}, False),
    "preference": ({"prompt": [USER], "completion": [USER, ASSISTANT]}, False),
    "ShareGPT": (
        {
            "conversations": [
                {"from": "human", "value": QUESTION},
                {"from": "gpt", "value": ANSWER},
            ]
        },
        False,
    ),
    "ShareGPT in messages": (
        {"messages": [{"from": "user", "value": QUESTION}, {"from": "model", "value": ANSWER}]},
        False,
    ),
    "conversations": ({"conversations": [USER, ASSISTANT]}, False),
    "another name": ({"turns": [USER, ASSISTANT], "id": 3}, False),
    "JSON text": ({"messages": json.dumps([USER, ASSISTANT])}, False),
    "Python text": ({"messages": str([USER, ASSISTANT])}, False),
    "object of lists": (
        {"messages": {"role": ["user", "assistant"], "content": [QUESTION, ANSWER]}},
        False,
    ),
    "maps": ({"messages": [list(USER.items()), list(ASSISTANT.items())]}, False),
    "parts": (
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": QUESTION}]},
                {
                    "role": "assistant",
                    "content": [{"type": "text", "text": t} for t in (ANSWER[:3], ANSWER[3:])],
                },
            ]
        },
        False,
    ),
    "Alpaca": ({"instruction": QUESTION, "input": "", "output": ANSWER}, True),
    "Alpaca with input": ({"instruction": "What is", "input": "2 * 3?", "output": ANSWER}, True),
    "question and answer": ({"question": QUESTION, "answer": ANSWER}, True),
    "an end token in the row": ({"prompt": QUESTION, "completion": ANSWER + "<END>\n"}, True),
    "two of them": (
        {"messages": [USER, {"role": "assistant", "content": ANSWER + "<END><END>"}]},
        False,
    ),
    "nothing beside": (
        {"messages": [USER, {**ASSISTANT, "tool_calls": None, "name": None}]},
        False,
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["qwen2_5", "qwen3", "llama3_1", "gemma3", "phi3"])
def test_the_same_row_in_every_form_gives_the_same_tokens(name, form):
    tokenizer = tokenizer_of(name)
    row, chat = FORMS[form]
    end = EXPECTED[name].rstrip("\n").removesuffix("<|endoftext|>").rstrip("\n")[:-1]
    end = end[end.rindex("<") :]
    row = json.loads(json.dumps(row).replace("<END>", end)) if "maps" not in form else row
    if form == "Alpaca with input":
        row = {**row, "input": "2 * 3?"}
        plain = {"messages": [{"role": "user", "content": "What is\n2 * 3?"}, ASSISTANT]}
    else:
        plain = {"messages": [USER, ASSISTANT]}
    (expected,) = encoded(tokenizer, [plain]).rows
    (actual,) = encoded(tokenizer, [row], chat=chat).rows
    assert decoded(tokenizer, actual) == decoded(tokenizer, expected)
    assert actual.prompt_ids.tolist() == expected.prompt_ids.tolist()
    assert actual.end == expected.end


def test_a_prompt_format_gives_the_same_tokens_as_its_template():
    from probtune.data.prompts import PromptSpec

    tokenizer = tokenizer_of("qwen2_5")
    spec = PromptSpec("chatml", system="Be brief.")
    pair = {"prompt": spec.render(QUESTION), "completion": ANSWER}
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    (row,) = encoded(tokenizer, [pair], end=end, begins=True).rows
    system = {"role": "system", "content": "Be brief."}
    (chat,) = encoded(tokenizer, [{"messages": [system, USER, ASSISTANT]}]).rows
    newline = "\n"  # which the template writes after the end token, unsupervised
    assert decoded(tokenizer, row) + newline == decoded(tokenizer, chat)


def test_turns_that_the_row_excludes_are_context():
    tokenizer = tokenizer_of("qwen2_5")
    for flag in ({"weight": 0}, {"train": False}, {"loss": False}):
        excluded = [TURNS[0], {**TURNS[1], **flag}, *TURNS[2:]]
        (row,) = encoded(tokenizer, [{"messages": excluded}]).rows
        expected = CHATML.replace("⟦", "", 1).replace("⟧", "", 1)
        assert decoded(tokenizer, row).endswith(expected)
    marked = [{**turn, "weight": 1} for turn in TURNS]
    (row,) = encoded(tokenizer, [{"messages": marked}]).rows
    assert decoded(tokenizer, row).endswith(CHATML)


def test_a_conversation_that_the_assistant_begins():
    greeting = [{"role": "assistant", "content": "Hello."}, *TURNS[:2]]
    for name, said in (
        ("qwen2_5", "assistant\n⟦Hello.<|im_end|>⟧"),
        ("llama3", "⟦Hello.<|eot_id|>⟧"),
    ):
        tokenizer = tokenizer_of(name)
        (row,) = encoded(tokenizer, [{"messages": greeting}]).rows
        assert said in decoded(tokenizer, row)


CALL = {
    "messages": [
        {"role": "user", "content": "weather 1"},
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [
                {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
            ],
        },
        {"role": "tool", "content": "12 C"},
        {"role": "assistant", "content": "It is 12 C"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "the weather",
                "parameters": {"type": "object", "properties": {}},
            },
        }
    ],
}


def test_tools_and_calls_reach_the_template():
    tokenizer = tokenizer_of("qwen3")
    encoding = encoded(tokenizer, [CALL])
    text = decoded(tokenizer, encoding.rows[0])
    assert '"description": "the weather"' in text and not encoding.unwritten
    assert (
        'Let me look.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n'
        "</tool_call><|im_end|>⟧" in text
    )
    as_text = json.loads(json.dumps(CALL))
    function = as_text["messages"][1]["tool_calls"][0]["function"]
    function["arguments"] = json.dumps(function["arguments"])
    as_text["tools"] = json.dumps(as_text["tools"])
    assert decoded(tokenizer, encoded(tokenizer, [as_text]).rows[0]) == text


@pytest.mark.parametrize("content", [None, ""])
def test_a_turn_may_be_a_call_alone(content):
    tokenizer = tokenizer_of("qwen2_5")
    call = json.loads(json.dumps(CALL))
    call["messages"][1]["content"] = content
    text = decoded(tokenizer, encoded(tokenizer, [call]).rows[0])
    assert '⟦<tool_call>\n{"name": "weather"' in text.replace("\n<tool_call>", "<tool_call>")


def test_a_call_that_the_template_does_not_write_is_refused():
    call = json.loads(json.dumps(CALL))
    with pytest.raises(DataError, match="does not write into what is trained on.*'weather'"):
        encoded(tokenizer_of("phi3"), [call])


def test_reasoning_is_written_or_named():
    row = {"messages": [USER, {**ASSISTANT, "reasoning_content": "Two times three."}]}
    tokenizer = tokenizer_of("qwen3")
    encoding = encoded(tokenizer, [row])
    assert "⟦<think>\nTwo times three.\n</think>" in decoded(tokenizer, encoding.rows[0])
    assert not encoding.unwritten
    assert encoded(tokenizer_of("phi3"), [row]).unwritten == {"reasoning_content": 1}
    inline = {"messages": [USER, {**ASSISTANT, "content": f"<think>\nSo.\n</think>\n\n{ANSWER}"}]}
    assert "⟦<think>\nSo.\n</think>" in decoded(tokenizer, encoded(tokenizer, [inline]).rows[0])


def test_an_answer_that_the_template_loses_is_an_error():
    losing = (
        "{% for m in messages %}<{{ m.role }}>{% generation %}{{ m.content[:4] }}<eot>"
        "{% endgeneration %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    tokenizer = byte_tokenizer(template=losing, extra=["<eot>"])
    with pytest.raises(DataError, match="turn 2 says 'It is 6.'"):
        encoded(tokenizer, [{"messages": [USER, ASSISTANT]}])


def test_marks_without_the_end_token_are_counted():
    marked = (
        "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}"
        "{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}<eot>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    tokenizer = byte_tokenizer(template=marked, extra=["<eot>"])
    encoding = encoded(tokenizer, [{"messages": [USER, ASSISTANT]}])
    assert encoding.counts["without_end"] == 1
    assert decoded(tokenizer, encoding.rows[0]).endswith("⟦It is 6.⟧<eot>")


def test_an_end_token_without_a_name_is_known(tmp_path):
    """LLaMA 3's <|eot_id|> has none: `all_special_tokens` of a saved tokenizer lack it."""
    from tokenizers import AddedToken
    from transformers import AutoTokenizer

    tokenizer = byte_tokenizer(template=TEMPLATES["llama3"], bos="<|begin_of_text|>")
    names = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    tokenizer.add_tokens(
        [AddedToken(name, special=True, normalized=False) for name in names], special_tokens=True
    )
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    (row,) = encoded(loaded, [{"messages": TURNS}]).rows
    assert loaded.decode([row.end]) == "<|eot_id|>"


def test_prompts_and_completions_get_one_beginning_and_one_end():
    tokenizer = helpers.word_tokenizer()
    rows = [{"prompt": "ask 1 =", "completion": f" 1{end}"} for end in ("", " <eos>", " <eos>\n")]
    ids = [row.input_ids.tolist() for row in encoded(tokenizer, rows).rows]
    assert ids[0] == ids[1] == ids[2] and ids[0].count(tokenizer.eos_token_id) == 1
    from tokenizers import processors

    begins = byte_tokenizer(bos="<s>")
    begins.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", begins.bos_token_id)]
    )
    one, two = encoded(
        begins, [{"prompt": text, "completion": " b"} for text in ("a", "<s>a")]
    ).rows
    assert one.input_ids.tolist() == two.input_ids.tolist()
    assert one.input_ids.tolist().count(begins.bos_token_id) == 1


def test_the_trainer_and_the_probe_mask_as_the_command_does(tmp_path):
    """`ProbTuneTrainer` on raw rows as they stand: the README's example."""
    import torch
    from datasets import Dataset

    import probtune
    from probtune import ProbTuneConfig, ProbTuneTrainer

    turns = [
        {"role": "user", "content": "ask 1 + 1 ="},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "ask 2 + 1 ="},
        {"role": "assistant", "content": "3"},
    ]
    tokenizer = helpers.word_tokenizer(helpers.CHAT_TEMPLATE)
    model = helpers.word_causal_model()
    for row in ({"messages": turns}, {"prompt": turns[:3], "completion": turns[3:]}):
        rows = [{**row, "id": index} for index in range(4)]
        (expected,) = encoded(tokenizer, [row]).rows
        trainer = ProbTuneTrainer(
            model,
            ProbTuneConfig(str(tmp_path), objective="nll", max_steps=1, report_to="none"),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        assert trainer.train_dataset[0]["input_ids"] == expected.input_ids.tolist()
        assert trainer.train_dataset[0]["labels"] == expected.labels.tolist()
        assert len(trainer.train_dataset) == 4
        with torch.no_grad():
            probe = probtune.probe(model, rows, tokenizer=tokenizer)
        assert probe.tokens == 4 * int((expected.labels[1:] != -100).sum())
