r"""Error rates of the graders, differences of the two protocols, and times.

    python benchmarks/grading.py           # error rates on real golds; about five minutes
    python benchmarks/grading.py --cases   # tables of the hand-made cases
    python benchmarks/grading.py --speed   # one checkpoint, 24,272 responses; about ten minutes

Each writes its tables into docs/evaluation.md and its figures, with the environment, into
benchmarks/grading.json. Golds of MATH-500 and OlympiadBench are read from `--data`, as
`math500/test.jsonl` and `olympiadbench/test.jsonl`.
"""

import argparse
import json
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from blocks import Table, markdown, write

from probtune.evaluation.grading import choice, math_strict
from probtune.evaluation.grading.base import Grade, GradingItem, versions
from probtune.evaluation.grading.latex import brackets, clean, normal, split_list
from probtune.evaluation.grading.literals import read_literal
from probtune.evaluation.grading.reference import math as math_reference
from probtune.evaluation.grading.reference import medicine
from probtune.records import environment

HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "docs" / "evaluation.md"
RESULTS = HERE / "grading.json"
CASES = HERE.parent / "tests"
GRADERS: dict[str, Callable[..., list[Grade]]] = {
    "strict": math_strict.grade,
    "reference": math_reference.grade,
}
SETS = {"MATH-500": "math500", "OlympiadBench": "olympiadbench"}
DRAWS = 10
"""Random other golds drawn for each gold."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", action="store_true", help="the hand-made cases alone")
    parser.add_argument("--speed", action="store_true", help="24,272 responses alone")
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if options.cases:
        show({"math cases": math_cases(), "choice cases": choice_cases()})
        return
    golds = {name: read_golds(options.data / folder) for name, folder in SETS.items()}
    measured = speed(golds, options) if options.speed else error_rates(golds, options.workers)
    show(measured.pop("tables"))
    earlier = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    earlier["speed" if options.speed else "errors"] = {
        **measured,
        "workers": options.workers,
        "versions": versions(),
        "environment": environment(),
    }
    RESULTS.write_text(json.dumps(earlier, indent=1) + "\n")


def read_golds(folder: Path) -> list[str]:
    """The gold answers, as the tasks read them."""
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    return [row["answer"] if "answer" in row else row["final_answer"][0].strip("$") for row in rows]


def boxed(answer: str) -> str:
    return f"Putting all of this together, we get $\\boxed{{{answer}}}$."


# Error rates on real golds


def rewritings(gold: str) -> dict[str, str]:
    """The same answer written in other ways, where they apply."""
    literal = read_literal(gold)
    whole = gold.lstrip("-").isdigit()
    around = brackets(gold)
    parts = split_list(gold)
    unordered = len(parts) > 1 and not around and "x" not in gold and "=" not in gold
    results = {
        "as it is": gold,
        "in dollars": f"${gold}$",
        "with a full stop": f"{gold}.",
        r"\dfrac": gold.replace(r"\frac", r"\dfrac").replace(r"\dd", r"\d"),
        r"\left( \right)": _large(gold),
        "wide spaces": re.sub(r"\s*([+=])\s*", r" \\, \1 \\, ", gold),
    }
    if whole:
        results["x ="] = f"x = {gold}"
        results["with a unit"] = f"{gold} \\text{{ units}}"
        results["decimal or fraction"] = f"{gold}.0"
        if len(gold.lstrip("-")) > 3:
            results["thousands"] = f"{int(gold):,}".replace(",", "{,}")
        else:
            results["computed"] = f"{int(gold) - 7} + 7"
    elif literal is not None and not literal.percent:
        ratio = literal.value
        if Fraction(str(float(ratio))) == ratio and "." not in gold:
            results["decimal or fraction"] = str(float(ratio))
        elif "." in gold or "/" in gold:
            results["decimal or fraction"] = rf"\frac{{{ratio.numerator}}}{{{ratio.denominator}}}"
        if ratio.denominator > 1:
            results["computed"] = rf"\frac{{{3 * ratio.numerator}}}{{{3 * ratio.denominator}}}"
    elif unordered:
        results["in another order"] = ", ".join(reversed(parts))
        results["joined by and"] = r" \text{ and } ".join(parts)
    elif around is None and not _NOT_A_NUMBER.search(clean(gold)):
        results["computed"] = f"{gold} + 1 - 1"
    results |= printed(gold)
    return {name: text for name, text in results.items() if name == "as it is" or text != gold}


def near_misses(gold: str) -> list[str]:
    """Other answers that look alike: one number one higher, the sign, the order of a tuple."""
    texts = []
    for number in re.finditer(r"\d+", gold):
        texts.append(f"{gold[: number.start()]}{int(number[0]) + 1}{gold[number.end() :]}")
    if not _NOT_A_NUMBER.search(clean(gold)) and gold != "0":
        texts.append(f"-({gold})" if re.search(r"[-+,]", gold[1:]) else f"-{gold}")
    around = brackets(gold)
    if around and around[0] == "(":
        parts = split_list(around[1])
        if parts != parts[::-1]:
            texts.append(f"({','.join(parts[::-1])})")
    return texts


def printed(gold: str) -> dict[str, str]:
    """A number or formula as SymPy prints it, as it is and with its brackets multiplied out."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse
    from sympy import Expr, expand, latex

    config = LatexExtractionConfig(normalization_config=NormalizationConfig(units=False))
    read = parse(f"\\boxed{{{clean(gold).replace('%', '')}}}", [config])
    if not read or not isinstance(read[0], Expr) or _NOT_A_NUMBER.search(clean(gold)):
        return {}
    expression = read[0].doit()
    return {
        "printed by SymPy": latex(expression),
        "expanded by SymPy": latex(expand(expression)),
        "on one line by SymPy": latex(expression, fold_short_frac=True, root_notation=False),
    }


_NOT_A_NUMBER = re.compile(r"[=_%,]|\\(?:text|infty|begin|in|cup|pm|circ)(?![A-Za-z])")


def _large(gold: str) -> str:
    plain = re.sub(r"\\(?:left|right)(?![a-z])", "", gold)
    plain = re.sub(r"(?<!\\)([(\[])", r"\\left\1", plain)
    return re.sub(r"(?<!\\)([)\]])", r"\\right\1", plain)


def error_rates(golds: dict[str, list[str]], workers: int) -> dict[str, Any]:
    """Right answers refused and wrong answers accepted, for each set and grader."""
    sys.path.insert(0, str(CASES))
    from grading_cases import SAME

    rows, by_rewriting, accepted, disagreement = [], {}, {}, []
    for name, answers in golds.items():
        right = [(gold, how, text) for gold in answers for how, text in rewritings(gold).items()]
        wrong = []
        for seed in range(DRAWS):
            draw = random.Random(seed)
            wrong += [(gold, draw.choice(answers)) for gold in answers]
        wrong = [(g, o) for g, o in wrong if normal(g) != normal(o) and (g, o) not in SAME]
        near = [(gold, miss) for gold in answers for miss in near_misses(gold)]
        verdicts = {}
        for grader, grade in GRADERS.items():
            restated, _, ms_first = timed(
                grade, [(g, t) for g, h, t in right if h == "as it is"], workers
            )
            written, errors, ms_right = timed(
                grade, [(gold, text) for gold, _, text in right], workers
            )
            random_, more, ms_wrong = timed(grade, wrong, workers)
            missed, most, _ = timed(grade, near, workers)
            verdicts[grader] = written + random_
            for (_, how, _), good in zip(right, written, strict=True):
                count = by_rewriting.setdefault(how, {}).setdefault(grader, [0, 0])
                count[0] += good
                count[1] += 1
            tried = zip(wrong + near, random_ + missed, strict=True)
            false = sorted({pair for pair, good in tried if good})
            accepted[f"{name}, {grader}"] = false
            for (gold, how, text), good in zip(right, written, strict=True):
                if grader == "strict" and not good:
                    print(f"refused: {name} {how}: {gold!r} as {text!r}")
            rows.append([
                name, grader,
                f"{sum(restated)} of {len(restated)}",
                f"{sum(written)} of {len(written)} ({sum(written) / len(written):.2%})",
                f"{sum(random_)} of {len(random_)}",
                f"{sum(missed)} of {len(missed)}",
                f"{sum(error == 'timeout' for error in errors + more + most)}",
                f"{ms_first:.2f} / {ms_right:.1f} / {ms_wrong:.1f}",
            ])  # fmt: skip
            print(rows[-1], flush=True)
        pairs = list(zip(verdicts["strict"], verdicts["reference"], strict=True))
        halves = pairs[: len(right)], pairs[len(right) :]
        disagreement.append([
            name,
            *(f"{sum(s != r for s, r in half)} of {len(half)}" for half in halves),
        ])  # fmt: skip
    tables = {
        "grader errors": (
            ["golds", "grader", "restated: accepted", "rewritten: accepted",
             "other golds: accepted", "near misses: accepted", "time-outs", "ms per pair"],
            rows,
        ),
        "rewritings": (
            ["written", *GRADERS],
            [
                [how, *(f"{count[g][0]} of {count[g][1]}" for g in GRADERS)]
                for how, count in by_rewriting.items()
            ],
        ),
        "disagreement": (["golds", "on right answers", "on other golds"], disagreement),
    }  # fmt: skip
    return {"tables": tables, "accepted": accepted, "rows": rows, "rewritings": by_rewriting}


def timed(
    grade: Callable[..., list[Grade]], pairs: Sequence[tuple[str, str]], workers: int
) -> tuple[list[bool], list[str | None], float]:
    """Return the acceptance of each pair of gold and answer, errors, and milliseconds per pair."""
    items = [GradingItem(boxed(answer), gold) for gold, answer in pairs]
    start = time.perf_counter()
    grades = grade(items, workers=workers)
    ms = 1e3 * (time.perf_counter() - start) / len(items)
    return [grade.score == 1 for grade in grades], [grade.error for grade in grades], ms


# The hand-made cases


def math_cases() -> Table:
    """Every case with what the graders say."""
    sys.path.insert(0, str(CASES))
    from grading_cases import MATH

    items = [GradingItem(boxed(answer), gold) for answer, gold, *_ in MATH]
    grades_of = [grade(items) for grade in GRADERS.values()]
    rows = []
    for (answer, gold, same, *_), *grades in zip(MATH, *grades_of, strict=True):
        said = [_said(grade.score == 1, same) for grade in grades]
        rows.append([_code(answer), _code(gold), "yes" if same else "no", *said])
    wrong = [sum("**" in row[3 + i] for row in rows) for i in range(2)]
    rows.append([f"{len(rows)} cases", "", "", *(f"{number} wrong" for number in wrong)])
    return ["answer", "gold", "the same", *GRADERS], rows


def choice_cases() -> Table:
    """Every response with the letters that the graders read."""
    sys.path.insert(0, str(CASES))
    from grading_cases import CHOICE, OPTIONS

    rows = []
    for text, meant, *_ in CHOICE:
        letters = [find(text, OPTIONS) for find in (choice.find_strict, medicine.find)]
        said = [
            f"{letter or '–'} ({how})" if letter == meant else f"**{letter or '–'}** ({how})"
            for letter, how in letters
        ]
        rows.append([_code(text), meant or "–", *said])
    wrong = [
        (sum("**" in row[i] and "**–**" not in row[i] for row in rows),
         sum("**–**" in row[i] for row in rows))
        for i in (2, 3)
    ]  # fmt: skip
    rows.append([
        f"{len(rows)} responses", "", *(f"{bad} wrong, {none} not read" for bad, none in wrong)
    ])  # fmt: skip
    return ["response", "means", *GRADERS], rows


def _said(accepted: bool, same: bool) -> str:
    word = "yes" if accepted else "no"
    return word if accepted == same else f"**{word}**"


def _code(text: str) -> str:
    text = text.replace("\n", "⏎").replace("|", "\\|")
    return f"`{text}`" if text.strip() else "(empty)"


# One checkpoint


def speed(golds: dict[str, list[str]], options: argparse.Namespace) -> dict[str, Any]:
    """Seconds for 24,272 made-up responses to (500 + 272 + 675 + 30 + 40) questions, 16 each."""
    responses = list(checkpoint(golds, options.data))
    rows = []
    results: dict[str, Any] = {"responses": len(responses)}
    for name, grade in GRADERS.items():
        start = time.perf_counter()
        grades = grade(responses, workers=options.workers)
        seconds = time.perf_counter() - start
        count = {
            "distinct": len({(i.gold, g.answer) for i, g in zip(responses, grades, strict=True)}),
            "right": sum(g.score for g in grades),
            "no answer": sum(g.answer is None for g in grades),
            "timeout": sum(g.error == "timeout" for g in grades),
        }  # fmt: skip
        results[name] = {"seconds": seconds, **count}
        rows.append([
            name, f"{len(grades):,}", f"{count['distinct']:,}",
            f"{count['right'] / len(grades):.1%}", f"{count['no answer'] / len(grades):.1%}",
            str(count["timeout"]), f"{seconds:.0f}",
        ])  # fmt: skip
        print(rows[-1], flush=True)
    header = [
        "grader",
        "responses",
        "distinct answers",
        "right",
        "no answer",
        "time-outs",
        "seconds",
    ]
    return {"tables": {"grading speed": (header, rows)}, **results}


def checkpoint(golds: dict[str, list[str]], data: Path) -> Sequence[GradingItem]:
    """Responses of some thousand characters: right ones in several spellings, other answers, the
    gold with its numbers changed, boxes of nonsense, cut-off boxes, no box; two that never end."""
    draw = random.Random(0)
    rows = [json.loads(line) for line in (data / "math500" / "test.jsonl").read_text().splitlines()]
    prose = [row["solution"].replace("\\boxed", "") for row in rows]
    every = [gold for answers in golds.values() for gold in answers]
    questions = [*every, *draw.choices(every, k=272 + 30 + 40)]
    items = []
    for gold in questions:
        for _ in range(16):
            text = "\n\n".join(draw.choices(prose, k=draw.randint(1, 8)))
            kind = draw.choices(_KINDS, weights=[35, 15, 25, 8, 5, 12])[0]
            items.append(GradingItem(f"{text}\n\n{kind(gold, every, draw)}", gold))
    items[1000] = GradingItem(boxed(r"\dfrac{5^{5^{5^{5^5}}-4}-5}{16}"), items[1000].gold)
    items[2000] = GradingItem(boxed(r"10^{10^{10}}"), items[2000].gold)
    return items


def _right(gold: str, _: list[str], draw: random.Random) -> str:
    return boxed(draw.choice(list(rewritings(gold).values())))


def _other(_: str, every: list[str], draw: random.Random) -> str:
    return boxed(draw.choice(every))


def _changed(gold: str, _: list[str], draw: random.Random) -> str:
    return boxed(re.sub(r"\d+", lambda result: str(draw.randint(1, 10 ** len(result[0]))), gold))


def _nonsense(gold: str, every: list[str], draw: random.Random) -> str:
    text = draw.choice(every) + draw.choice([" + ", "=", ", ", "^", " \\text{ or } "]) + gold
    return boxed("".join(c for c in text if draw.random() > 0.05 or c in "{}"))


def _cut(gold: str, _: list[str], draw: random.Random) -> str:
    return boxed(gold)[: -draw.randint(3, 4 + len(gold))]


def _no_box(gold: str, _: list[str], draw: random.Random) -> str:
    return f"So the answer is {gold}." if draw.random() < 0.5 else ""


_KINDS = [_right, _other, _changed, _nonsense, _cut, _no_box]


def show(tables: dict[str, Table]) -> None:
    for name, table in tables.items():
        print(f"\n{name}\n{markdown(table)}")
        write(DOCUMENT, name, table)


if __name__ == "__main__":
    main()
