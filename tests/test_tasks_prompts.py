"""The prompts that the reference names, letter for letter."""

import pytest

from probtune.evaluation.tasks.base import asked_under
from probtune.evaluation.tasks.math_protocol import question_text
from probtune.evaluation.tasks.table import DOMAINS, TASKS

BOX = "Please reason step by step, and put your final answer within \\boxed{}."
HELPFUL = "You are a helpful assistant."
QWEN = (
    f"<|im_start|>system\n{HELPFUL}<|im_end|>\n<|im_start|>user\nQ\n{BOX}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
LLAMA = (
    f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{HELPFUL}<|eot_id|>"
    f"<|start_header_id|>user<|end_header_id|>\n\nQ\n{BOX}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
DEEPSEEK = f"User: Q\n{BOX}\n\nAssistant:"
PLAIN = f"{HELPFUL}\n\nQ\n{BOX}"
DATED = (
    "<|begin_of_text|><|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
    f"<|start_header_id|>user<|end_header_id|>\n\nQ\n{BOX}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
FIGLET = (
    "You are an expert at decoding Figlet Font ASCII art. When given Figlet Font text, identify the"
    " word it represents and output only that without any explanations or additional text."
)


def prompt(task, protocol, family, question="Q"):
    return TASKS[task].protocols[protocol].prompt(family).render(question)


@pytest.mark.parametrize("task", [*DOMAINS["math"], "gsm8k"])
@pytest.mark.parametrize(
    "protocol, family, text",
    [
        ("strict", "chatml", QWEN),
        ("strict", "llama3", LLAMA),
        ("strict", "deepseek", DEEPSEEK),
        ("strict", "plain", PLAIN),
        ("reference", "chatml", QWEN),
        ("reference", "llama3", LLAMA.replace("<|eot_id|>", "<|eot_id|>\n")),
        ("reference", "deepseek", "<｜begin▁of▁sentence｜>" + DEEPSEEK),
        ("reference", "plain", PLAIN),
    ],
)
def test_mathematics(task, protocol, family, text):
    assert prompt(task, protocol, family) == text


@pytest.mark.parametrize("task", DOMAINS["medical"])
@pytest.mark.parametrize(
    "protocol, family, text",
    [
        ("strict", "chatml", QWEN),
        ("strict", "llama3", LLAMA),
        ("strict", "deepseek", DEEPSEEK),
        ("strict", "plain", PLAIN),
        ("reference", "chatml", QWEN),
        ("reference", "llama3", DATED),
    ],
)
def test_medicine(task, protocol, family, text):
    assert prompt(task, protocol, family) == text


@pytest.mark.parametrize("task", ["figlet", "figlet_words", "figlet_fonts"])
def test_figlet(task):
    user = "<|start_header_id|>user<|end_header_id|>\n\nQ<|eot_id|>"
    llama = (
        f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{FIGLET}<|eot_id|>{user}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    qwen = f"<|im_start|>system\n{FIGLET}<|im_end|>\n<|im_start|>user\nQ{{}}<|im_end|>\n"
    qwen += "<|im_start|>assistant\n"
    assert prompt(task, "strict", "llama3") == llama
    assert prompt(task, "reference", "llama3") == "<|begin_of_text|>" + llama
    assert prompt(task, "strict", "chatml") == qwen.format("")
    assert prompt(task, "reference", "chatml") == qwen.format("\n")


@pytest.mark.parametrize("protocol", ["strict", "reference"])
def test_code_is_asked_as_evalplus_asks(protocol):
    from evalplus.provider.utility import make_raw_chat_prompt

    code = "def f():\n    pass"
    expected = make_raw_chat_prompt(
        code + "\n",
        "Please provide a self-contained Python script that solves the following problem in a"
        " markdown code block:",
        "Below is a Python script with a self-contained function that solves the problem and"
        " passes corresponding tests:",
        Chatml(),
    )
    for task in DOMAINS["code"]:
        assert prompt(task, protocol, "chatml", code) == expected
        assert prompt(task, protocol, "plain", code) == f"{HELPFUL}\n\n{code}\n"


class Chatml:
    """A tokenizer with Qwen's template, as far as EvalPlus looks."""

    chat_template = "chatml"

    def apply_chat_template(self, messages, tokenize):
        turns = [{"role": "system", "content": HELPFUL}, *messages]
        return "".join(f"<|im_start|>{t['role']}\n{t['content']}<|im_end|>\n" for t in turns)


def test_openbookqa_is_asked_as_the_papers_code_asks():
    task = TASKS["openbookqa"]
    (question,) = task.read([task.example])
    text = (
        "Please complete the following multiple choice question.\n"
        "Question: A metal spoon in hot soup soon feels hot at its other end because of\n"
        "Options:\nA. evaporation\nB. conduction\nC. reflection\nD. photosynthesis"
    )
    assert prompt("openbookqa", "reference", "chatml", question.text) == (
        f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    )


def test_one_generation_serves_both_protocols_where_both_ask_alike():
    def same(task, family):
        strict, reference = TASKS[task].protocols.values()
        return (strict.prompt(family), strict.decoding) == (
            reference.prompt(family),
            reference.decoding,
        )

    for task in [*DOMAINS["math"], *DOMAINS["medical"], *DOMAINS["code"], "openbookqa"]:
        assert same(task, "chatml")
    assert not same("math500", "llama3")
    assert not same("figlet", "chatml")
    assert not same("mmlu_prox_zu", "chatml")


@pytest.mark.parametrize(
    "domain, tokens, temperature, samples",
    [
        *(("math", 4096, 1.0, 16), ("medical", 8000, 0.0, 1), ("figlet", 5, 0.0, 1)),
        *(("code", 768, 0.0, 1), ("languages", 1024, 0.0, 1), ("knowledge", 128, 0.0, 1)),
        ("instructions", 2048, 0.7, 1),
    ],
)
def test_answers_are_drawn_as_the_papers_code_draws(domain, tokens, temperature, samples):
    for name in DOMAINS[domain]:
        decoding = TASKS[name].protocols["reference"].decoding
        drawn = (decoding.max_new_tokens, decoding.temperature, decoding.samples)
        assert drawn == (tokens, temperature, samples)
        assert decoding.top_p == (0.9 if domain == "instructions" else 1.0)


def test_two_words_to_choose_from_are_said():
    assert question_text("Is it?", "False") == "Is it? (True or False)"
    assert question_text("Is it?", "yes") == "Is it? (Yes or No)"
    assert question_text(" Is it? ", "no way") == "Is it?"


@pytest.mark.parametrize("code", ["mr", "te", "ne", "sw", "wo", "yo", "zu"])
def test_languages_are_asked_as_lm_eval_asks(code):
    import importlib

    import yaml

    folder = "lm_eval.tasks.mmlu_prox"
    theirs = importlib.import_module(f"{folder}.{code}.utils")
    root = importlib.import_module(f"{folder}.lang_libs")
    task = TASKS[f"mmlu_prox_{code}"]
    shots = [
        {
            **task.example,
            "question_id": i,
            "question": f"{i} + 0 = ?",
            "cot_content": f"{root.LANG_LIBS[code][4]} {root.LANG_LIBS[code][5].format('A')}.",
        }
        for i in range(10, 15)
    ]
    (question,) = task.read([*shots, task.example])

    path = f"{root.__file__.rsplit('/', 1)[0]}/{code}/mmlu_prox_{code}_math.yaml"
    with open(path, encoding="utf-8") as file:
        lines = [line for line in file if "!function" not in line]
    intro = yaml.safe_load("".join(lines))["description"]
    worked = "".join(theirs.fewshot_to_text(row) for row in shots)
    assert question.text == intro + worked + theirs.doc_to_text(task.example)
    (rendered,) = asked_under([question], "reference")
    assert rendered.text == intro + theirs.doc_to_text(task.example)

    template = path.replace(f"mmlu_prox_{code}_math.yaml", f"_{code}_template_yaml")
    with open(template, encoding="utf-8") as file:
        lines = [line for line in file if "!function" not in line]
    theirs = yaml.safe_load("".join(lines))["generation_kwargs"]
    drawn = task.protocols["strict"].decoding
    assert tuple(theirs["until"]) == drawn.stop
    assert theirs["max_gen_toks"] == drawn.max_new_tokens
