r"""The reference graders beside the paper's own code, on generated and mutated answers.

    python benchmarks/paper_graders.py REPOSITORY [--python PYTHON] [--number 20000]
    python benchmarks/paper_graders.py REPOSITORY --table

REPOSITORY is a clone of https://github.com/GaotangLi/Beyond-Log-Likelihood, which is no part of
this project. PYTHON, by default this one, is an interpreter that has what `paper_oracle.py` names.
The first form grades `--number` answers of each domain both ways, prints what differs, and fails if
anything does; it writes the counts into benchmarks/paper_graders.json and docs/evaluation.md. The
counts of every thousand answers are kept in `--state`, and the same command goes on with the next
thousand. The second form writes a smaller sample with the paper's verdicts into
tests/paper_verdicts.jsonl, which the tests read where there is no clone.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from blocks import write
from paper_cases import DOMAINS, Case, generate

from probtune.evaluation.grading.base import Grade, GradingItem, versions
from probtune.evaluation.grading.reference import figlet, math, medicine
from probtune.evaluation.grading.reference.explicit import ExplicitChoice
from probtune.records import environment

HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "docs" / "evaluation.md"
RESULTS = HERE / "paper_graders.json"
TABLE = HERE.parent / "tests" / "paper_verdicts.jsonl"
IN_TABLE = 80
"""Cases of each domain in the table."""
PART = 1000
"""Cases that are graded together."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--number", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--domain", choices=[*DOMAINS], action="append")
    parser.add_argument("--table", action="store_true", help="write the table for the tests")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--state", type=Path, help="file of finished thousands (JSON lines)")
    options = parser.parse_args()
    counts: dict[str, dict[str, int]] = {}
    lines = []
    for domain in options.domain or DOMAINS:
        number = IN_TABLE if options.table else options.number
        cases = generate(domain, number, options.seed + options.table)
        if options.table:
            expected = of_the_paper(cases, options.repository, options.python, options.workers)
            lines += [
                json.dumps({**case, **verdict}, ensure_ascii=False)
                for case, verdict in zip(cases, expected, strict=True)
                if "error" not in verdict
            ]
            continue
        counts[domain] = in_parts(domain, cases, options)
        print(domain, counts[domain], flush=True)
    if options.table:
        TABLE.write_text("\n".join(lines) + "\n")
        return
    before = json.loads(RESULTS.read_text())["counts"] if RESULTS.is_file() else {}
    counts = {name: {**before, **counts}[name] for name in DOMAINS if name in {**before, **counts}}
    rows = [[domain, *(f"{count:,}" for count in of.values())] for domain, of in counts.items()]
    header = ["domain", "answers", "right", "other answer", "other verdict", "not decided"]
    write(DOCUMENT, "paper graders", (header, rows))
    measured = {"counts": counts, "seed": options.seed, "versions": versions()}
    RESULTS.write_text(json.dumps({**measured, "environment": environment()}, indent=1) + "\n")
    if any(of["other answer"] or of["other verdict"] for of in counts.values()):
        sys.exit("The reference graders differ from the paper's code.")


def in_parts(domain: str, cases: Sequence[Case], options: argparse.Namespace) -> dict[str, int]:
    """Counts of all cases, a thousand at a time; finished thousands are read from the state."""
    state: Path | None = options.state
    finished = [] if state is None or not state.is_file() else state.read_text().splitlines()
    parts = {part["part"]: part["counts"] for part in map(json.loads, finished)}
    total: Counter[str] = Counter()
    for start in range(0, len(cases), PART):
        part = f"{domain} {options.seed} {start}"
        if part not in parts:
            chosen = cases[start : start + PART]
            expected = of_the_paper(chosen, options.repository, options.python, options.workers)
            parts[part] = compare(chosen, expected, options.workers)
            print(part, parts[part], flush=True)
            if state is not None:
                with state.open("a") as file:
                    print(json.dumps({"part": part, "counts": parts[part]}), file=file)
        total.update(parts[part])
    return dict(total)


def of_the_paper(
    cases: Sequence[Case], repository: Path, python: str, workers: int = 2
) -> list[Case]:
    """Verdicts of the paper's code, by `paper_oracle.py` in its own interpreter."""
    run = subprocess.run(
        [python, HERE / "paper_oracle.py", repository.absolute(), "--workers", str(workers)],
        input="\n".join(map(json.dumps, cases)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in run.stdout.splitlines()]


def ours(cases: Sequence[Case], workers: int | None = None) -> list[Grade]:
    """Grades of the same cases."""
    groups: dict[str, list[int]] = {}
    for position, case in enumerate(cases):
        groups.setdefault(case.get("benchmark", case["domain"]), []).append(position)
    grades: dict[int, Grade] = {}
    for name, places in groups.items():
        items = [
            GradingItem(cases[i]["text"], cases[i]["gold"], cases[i].get("options")) for i in places
        ]
        grades |= dict(zip(places, _grader(name, workers)(items), strict=True))
    return [grades[position] for position in range(len(cases))]


def _grader(name: str, workers: int | None) -> Callable[[Sequence[GradingItem]], list[Grade]]:
    if name in ("openbookqa", "mmlu_prox"):
        return ExplicitChoice(name)
    if name == "medicine":
        return medicine.grade
    if name == "figlet":
        return figlet.grade
    units, solved = name != "minerva_math", name in ("math_oai", "minerva_math")
    return lambda items: math.grade(
        items, units=units, solved=solved, timeout_s=20, workers=workers
    )


def compare(
    cases: Sequence[Case], expected: Sequence[Case], workers: int | None = None
) -> dict[str, int]:
    """Counts of what differs, each printed. A case is not decided where either side ran out of time
    or the paper's code raised.
    """
    count = dict.fromkeys(["answers", "right", "other answer", "other verdict", "not decided"], 0)
    for case, verdict, grade in zip(cases, expected, ours(cases, workers), strict=True):
        count["answers"] += 1
        if "error" in verdict or grade.error in ("timeout", "crashed"):
            count["not decided"] += 1
            print(f"not decided: {case} {verdict} {grade.error}")
            continue
        count["right"] += verdict["right"]
        if differs(verdict, grade) == "answer":
            count["other answer"] += 1
        elif differs(verdict, grade):
            count["other verdict"] += 1
        if differs(verdict, grade):
            print(f"differs: {case}\n  paper {verdict}\n  ours  {grade}")
    return count


def differs(verdict: Case, grade: Grade) -> str | None:
    """`answer`, `verdict`, or None where a grade is the paper's verdict."""
    similarity = grade.metrics.get("jaro_winkler_reference")
    if similarity is not None and abs(similarity - verdict["similarity"]) > 1e-12:
        return "verdict"
    if similarity is None and (verdict["answer"] or "") != (grade.answer or ""):
        return "answer"
    return None if bool(grade.score) == verdict["right"] else "verdict"


if __name__ == "__main__":
    main()
