r"""Verdicts of the paper's own evaluation code, for `paper_graders.py`.

    python benchmarks/paper_oracle.py REPOSITORY < cases.jsonl > verdicts.jsonl

Runs the code of a clone of https://github.com/GaotangLi/Beyond-Log-Likelihood, which is no part of
this project, with the Python of an environment that has what that code needs for grading:
sympy 1.12, antlr4-python3-runtime 4.11.1, word2number, regex, pebble, tqdm and numpy. Its imports
of vLLM, transformers and pandas, which grading does not use, are answered by empty modules.

A case is one JSON object a line: `domain`, `text`, `gold`, and `options` (medicine) or `benchmark`
(mathematics, by its name there). A verdict is one object a line: `answer`, `right`, and for figlet
`similarity`; or `error`, where the code raised or a comparison took longer than the time-out.
"""

import argparse
import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

TIMEOUT_S = 20.0
"""Seconds for one comparison. The paper's code gives 3, which depend on the machine's load."""

_MAIN = {
    "figlet": "figfont/main.py",
    "openbookqa": "knowledge_memorization/main.py",
    "mmlu_prox": "low_resource_language/main.py",
    "medicine": "medical/utils/extract_answer.py",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    cases = [json.loads(line) for line in sys.stdin]
    for verdict in verdicts(cases, options.repository / "evaluations", options.workers):
        print(json.dumps(verdict))


def verdicts(cases: list[dict[str, Any]], folder: Path, workers: int) -> list[dict[str, Any]]:
    """One verdict for each case, in order."""
    others: dict[str, Any] = {}
    results = []
    for case in cases:
        domain = case["domain"]
        if domain not in others:
            others[domain] = folder if domain == "mathematics" else load(folder / _MAIN[domain])
            if domain == "mathematics":
                start(folder)
        results.append(globals()[f"of_{domain}"](others[domain], case))
    pairs = dict.fromkeys((of["answer"], of["of_gold"]) for of in results if "of_gold" in of)
    right = compare(list(pairs), folder, workers)
    return [
        of if "of_gold" not in of else {**of, **right[of["answer"], of["of_gold"]]}
        for of in results
    ]


def compare(
    pairs: list[tuple[str | None, str]], folder: Path, workers: int
) -> dict[tuple[str | None, str], dict[str, Any]]:
    """Return the verdicts of the paper's code on pairs of answer and gold, each in its own time."""
    from pebble import ProcessPool

    if not pairs:
        return {}
    with ProcessPool(max_workers=workers, initializer=start, initargs=[folder]) as pool:
        futures = [pool.schedule(equal, args=pair, timeout=TIMEOUT_S) for pair in pairs]
        return {pair: result_of(future) for pair, future in zip(pairs, futures, strict=True)}


def result_of(future: Any) -> dict[str, Any]:
    try:
        return {"right": future.result()}
    except TimeoutError:
        return {"error": "timeout"}
    except Exception as error:  # the paper's code ends the whole run where this happens
        return {"error": repr(error)}


def load(path: Path) -> Any:
    """A file as a module, with empty modules for what only generation needs."""
    for name in ("vllm", "transformers", "pandas"):
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            stand_in = types.ModuleType(name)
            vars(stand_in).update({n: None for n in ("LLM", "SamplingParams", "AutoTokenizer")})
            sys.modules[name] = stand_in
    spec = importlib.util.spec_from_file_location(f"paper_{path.parent.name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of_figlet(code: Any, case: dict[str, Any]) -> dict[str, Any]:
    text, gold = case["text"], case["gold"]
    similarity = code.jaro_winkler_similarity(text, gold)
    return {"answer": text, "right": text == gold, "similarity": similarity}


def of_openbookqa(code: Any, case: dict[str, Any]) -> dict[str, Any]:
    return _letter(code.extract_mc_answer(case["text"]), case)


def of_mmlu_prox(code: Any, case: dict[str, Any]) -> dict[str, Any]:
    return _letter(code.extract_mc_answer(case["text"], list("ABCDEFGHIJ")), case)


def of_medicine(code: Any, case: dict[str, Any]) -> dict[str, Any]:
    letter, _ = code.extract_overall_answer(case["text"], case["options"], case["gold"])
    return _letter(letter, case)


def _letter(letter: str | None, case: dict[str, Any]) -> dict[str, Any]:
    return {
        "answer": letter,
        "right": letter is not None and letter.lower() == case["gold"].lower(),
    }


def start(folder: Path) -> None:
    """Import the mathematics once, outside of any time limit."""
    sys.path[:0] = [str(folder / "math"), str(folder / "math" / "latex2sympy")]
    equal("x + 1", "1 + x")


def equal(answer: str | None, gold: str) -> bool:
    import grader  # type: ignore

    return bool(grader.math_equal(answer, gold))


def of_mathematics(_: Path, case: dict[str, Any]) -> dict[str, Any]:
    """Answer and gold as `process_dataset` and `evaluate` have them of one response."""
    import parser as answers  # type: ignore

    name, gold = case["benchmark"], case["gold"]
    solved = {"solution": f"Hence $\\boxed{{{gold}}}$.", "answer": gold, "final_answer": [gold]}
    steps, gold = answers.parse_ground_truth(solved, name)
    text = case["text"].rstrip()
    answer, _ = answers.run_execute(None, text, "qwen-boxed", name)
    letters = ["A", "B", "C", "D", "E"]
    if gold in letters and answer not in letters:
        answer = answers.choice_answer_clean(text)
    elif all(c in letters for c in gold) and answer and not all(c in letters for c in answer):
        answer = "".join(c for c in answer if c in letters)
    _, gold = answers.parse_ground_truth({"gt_cot": steps, "gt": gold}, name)
    return {"answer": answer, "of_gold": gold}


if __name__ == "__main__":
    main()
