r"""Mathematical answers: the table of cases, real golds, boxes, and answers that never end."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction

import pytest
from grading_cases import MATH, SAME

from probtune.errors import DataError
from probtune.evaluation.grading import math_strict
from probtune.evaluation.grading.base import VERSION, GradingItem, versions
from probtune.evaluation.grading.latex import clean, interval, normal, split_list, unit
from probtune.evaluation.grading.literals import read_literal
from probtune.evaluation.grading.pool import compare_all
from probtune.evaluation.grading.reference import math as math_reference
from probtune.measure.answers import read_rule
from probtune.measure.boxes import last_box
from probtune.processors import cpu_quota, usable_processors

TOWER = r"\boxed{\dfrac{5^{5^{5^{5^5}}-4}-5}{16}}"


def in_boxes(pairs):
    return [GradingItem(rf"so \boxed{{{answer}}}", gold) for answer, gold in pairs]


@pytest.fixture(scope="module")
def graded():
    items = in_boxes([case[:2] for case in MATH])
    return math_strict.grade(items), math_reference.grade(items)


@pytest.mark.parametrize("number", range(len(MATH)), ids=lambda i: "~".join(MATH[i][:2]))
def test_cases(graded, number):
    _, _, _, strict, reference = MATH[number]
    assert graded[0][number].score == strict
    assert graded[1][number].score == reference
    assert all(grades[number].error in (None, "unparsable") for grades in graded)


def test_strict_accepts_no_wrong_case_and_the_table_is_not_trivial():
    assert len(MATH) >= 60 and len({case[:2] for case in MATH}) == len(MATH)
    assert not [case for case in MATH if case[3] and not case[2]]
    assert sum(case[2] for case in MATH) >= 30 and sum(not case[2] for case in MATH) >= 20
    assert sum(case[4] and not case[2] for case in MATH) >= 5  # the paper's rule accepts too much


@pytest.mark.parametrize(
    ("text", "box"),
    [
        (r"\boxed{1} \boxed{2}", "2"),
        (r"\fbox{ 3 }", "3"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\frac{1}{2}}}}", r"\frac{1}{2}"),
        (r"\boxed{\text{so } \boxed{7}}", "7"),
        (r"\boxed {4}", "4"),
        ("\\boxed\n{4}", "4"),
        (r"$\boxed 5$", "5"),
        (r"\boxed \frac{1}{2}, done", r"\frac{1}{2}"),
        (r"\boxed{1} then \boxed{2", None),
        (r"\boxed{1} then \boxed{}", None),
        (r"\boxed{a\\}", r"a\\"),
        (r"\boxedtext{1}", None),
        (r"\boxed", None),
        ("", None),
        ("boxed{1}", None),
    ],
)
def test_last_box(text, box):
    assert last_box(text) == box
    assert read_rule("boxed")(text) == box


def test_no_box_is_no_answer_and_no_earlier_formula_stands_in():
    grades = math_strict.grade([GradingItem(t, "7") for t in ("so $x=7$", r"$7$ \boxed{8\%}", "")])
    assert [(g.score, g.answer, g.extraction) for g in grades] == [
        (0.0, None, "none"), (0.0, r"8\%", "boxed"), (0.0, None, "none"),
    ]  # fmt: skip


def test_the_reference_reads_on_where_there_is_no_box():
    texts = ["The answer is: 7.", "6 or 7", r"\boxed{7", "nothing", "the answer is 6\nor 7"]
    grades = math_reference.grade([GradingItem(text, "7") for text in texts])
    assert [(g.score, g.extraction) for g in grades] == [
        (1.0, "phrase"), (1.0, "number"), (1.0, "boxed"), (0.0, "none"), (0.0, "phrase"),
    ]  # fmt: skip
    assert grades[3].answer is None


def test_golds_are_numbers_text_or_boxes_and_never_empty():
    for gold in (27, 27.0, "27", "$27$", r"hence $\boxed{27}$", Fraction(27)):
        assert math_strict.grade([GradingItem(r"\boxed{27}", gold)])[0].score == 1
    for gold in ("", None, "$$", r"\boxed{}"):
        with pytest.raises(DataError, match="item 1"):
            math_strict.grade([GradingItem("1", "1"), GradingItem("1", gold)])


def test_a_named_tolerance_is_relative_to_the_gold():
    pairs = [("0.3333", r"\frac13"), ("3.14", r"\pi"), ("101", "100"), (r"\sqrt{2}", "1.41"),
             ("(0.3333, 2)", r"(\frac13, 2)"), ("99", "100"), ("98", "100"),
             ("-100", "100")]  # fmt: skip
    exact = math_strict.grade(in_boxes(pairs))
    near = math_strict.grade(in_boxes(pairs), rel_tol=1e-2)
    assert not any(grade.score for grade in exact)
    assert [grade.score for grade in near] == [1, 1, 1, 1, 1, 1, 0, 0]


def test_a_tower_of_powers_is_given_up_and_the_others_go_on():
    items = [GradingItem(TOWER, "7"), *in_boxes([(r"2\sqrt{4}", "4"), (r"\sqrt{9}", "4")])]
    math_strict.grade(items[1:])  # the workers are up
    start = time.perf_counter()
    first, *others = math_strict.grade(items, timeout_s=2)
    assert time.perf_counter() - start < 15
    assert (first.score, first.error) == (0.0, "timeout")
    assert [(grade.score, grade.error) for grade in others] == [(1.0, None), (0.0, None)]
    again = math_strict.grade(in_boxes([(r"3\sqrt{4}", "6")]))
    assert again[0].score == 1


def test_it_works_in_threads_and_equal_pairs_are_compared_once():
    grades = {}

    def work(name):
        pairs = [(rf"{name} + \sqrt{{{k * k}}}", str(name + k)) for k in range(1, 6)] * 3
        grades[name] = [grade.score for grade in math_strict.grade(in_boxes(pairs))]

    threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert grades == {name: [1.0] * 15 for name in range(3)}
    seen = []
    assert len(compare_all(_equal, [("a", "a"), ("a", "a")], finished=seen.append)) == 1
    assert seen == [("a", "a")]


def test_workers_that_die_are_replaced():
    tasks = [("a", "die"), ("a", "a"), ("a", "b")]
    verdicts = compare_all(_deadly, tasks)
    assert verdicts[tasks[0]] == (False, "crashed")
    assert verdicts[tasks[1]] == (True, None) and verdicts[tasks[2]] == (False, None)


@pytest.mark.parametrize("killed", [1, None])
def test_workers_that_are_killed_between_two_batches_are_replaced(killed):
    """As by a system that is short of memory."""
    assert compare_all(_equal, [("b", "b")], workers=2)[("b", "b")].equal
    pids = [p.pid for p in multiprocessing.active_children()]
    for pid in pids[:killed]:
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    number = str(killed)
    assert compare_all(_equal, [(number, number)], workers=2)[(number, number)].equal


def _equal(gold, answer):
    return gold == answer


def _deadly(gold, answer):
    if answer == "die":
        os._exit(3)
    return gold == answer


def test_progress_counts_every_item():
    for grade in (math_strict.grade, math_reference.grade):
        seen = []
        items = [
            *in_boxes([("1", "1"), (r"\sqrt{4}", "2"), (r"\sqrt{4}", "2")]),
            GradingItem("", "1"),
        ]
        grade(items, progress=seen.append)
        assert seen == sorted(seen) and seen[-1] == 4
    assert math_strict.grade([]) == []


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_hostile_texts_neither_raise_nor_hang(every):
    draw = random.Random(0)
    letters = "\\{}$boxedfrac^_&%#~0123456789.,()[] \n"
    texts = [
        "\\boxed{" * 15_000, "\\boxed{" + "{" * 100_000, "\0" * 100_000, "\\boxed{\0}",
        "\\boxed{\ud800}", "\\boxed{" + "x+" * 50_000 + "1}", "\\boxed{" + "9" * 5_000 + "}",
        "\\boxed{" + "9" * 1_900 + "}", "\\boxed{1e999999}", "\\boxed{10^{999999}}",
        "\\boxed{答案}", "\\boxed{٣}", "\\boxed{²}", "7" * 100_000, "\\boxed{" + ",1" * 900 + "}",
        "\\boxed{\\frac}", "\\boxed{\\frac{1}{0}}", "\\boxed{1/0}", "\\boxed{%}", "\\boxed{\\\\}",
        *("\\boxed{" + "".join(draw.choices(letters, k=40)) + "}" for _ in range(25)),
        "".join(draw.choices(letters, k=100_000)),
    ]  # fmt: skip
    for grade in (math_strict.grade, math_reference.grade):
        start = time.perf_counter()
        items = [GradingItem(text, r"\frac{\pi}{2}") for text in texts[::every]]
        grades = grade(items, timeout_s=3)
        assert time.perf_counter() - start < 60
        assert not any(g.score for g in grades)


@pytest.mark.parametrize(
    ("folder", "key"), [("math500", "answer"), ("olympiadbench", "final_answer")]
)
@pytest.mark.parametrize("number", [60, pytest.param(None, marks=pytest.mark.slow)])
def test_real_golds(shared_data, folder, key, number):
    rows = [
        json.loads(line) for line in (shared_data / folder / "test.jsonl").read_text().splitlines()
    ]
    golds = [row[key] if isinstance(row[key], str) else row[key][0].strip("$") for row in rows]
    draw = random.Random(0)
    sample = draw.sample(golds, number or len(golds))
    right = math_strict.grade(in_boxes((gold, gold) for gold in sample))
    assert all(grade.score for grade in right)
    pairs = [(draw.choice(golds), gold) for gold in sample]
    wrong = math_strict.grade(in_boxes(pairs))
    accepted = {
        (gold, other)
        for (other, gold), grade in zip(pairs, wrong, strict=True)
        if grade.score and normal(other) != normal(gold)
    }
    assert accepted <= SAME
    assert all(grade.error in (None, "unparsable") for grade in wrong)


def test_numbers_are_read_exactly():
    values = {
        "1{,}000": 1000,
        r"11,\! 111,\!100": 11111100,
        "-.5": Fraction(-1, 2),
        "1e-3": Fraction(1, 1000),
        r"-\frac{-3}{4}": Fraction(3, 4),
        r"2\frac34": Fraction(11, 4),
        r"\$1,234.50": Fraction(2469, 2),
        "10^{4}": 10_000,
        r"6.02 \times 10^{23}": 602 * 10**21,
    }
    assert {text: read_literal(text).value for text in values} == values
    for text in ("", "x", "1,2", "1 2", "2n", "1/0", r"\frac{1}{0}", "1e99999", "--1", "1,00"):
        assert read_literal(text) is None, text


def test_text_of_latex():
    assert split_list("(1,2), [3,4) and 5") == ["(1,2)", "[3,4)", "5"]
    assert unit(r"5.4 \text{ cents}") == ("5.4", "cent") and unit("2m")[1] == ""
    assert (
        unit("15\\mbox{ cm}^2") == ("15", "centimeter^2") == unit(r"15 \text{ square centimeters}")
    )
    assert interval(r"2 \geq x > -1") == ("x", "(-1,2]") and interval("x > x^2") is None
    assert clean(r"\begin{pmatrix}1 \\ -2\end{pmatrix}") == r"\begin{pmatrix}1 \\ -2\end{pmatrix}"


def test_a_script_without_a_main_guard_is_told_so(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from probtune.evaluation.grading import math_strict as m\n"
        "print(m.grade([m.GradingItem(r'\\boxed{\\sqrt{4}}', '2')], timeout_s=5))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    # The line that ends the traceback; the workers' own tracebacks may come between, and leave the
    # spaces that end their message before it.
    (error,) = [x for x in done.stderr.splitlines() if x.strip().startswith("probtune.errors.")]
    assert 'needs `if __name__ == "__main__":`' in error


def test_versions_name_what_decides():
    numbers = versions()
    assert numbers["grading"] == VERSION and "absent" not in numbers.values()
    assert {"math-verify", "sympy", "latex2sympy2_extended", "rapidfuzz"} < set(numbers)


def test_grading_needs_no_torch():
    code = (
        "import sys; from probtune.evaluation.grading import *; "
        "from probtune.evaluation.grading import choice, figlet, math_strict; "
        "from probtune.evaluation.grading.reference import math, medicine; "
        "assert not {'torch', 'sympy', 'math_verify', 'pebble'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


SLOW_IMPORT = """
import sys, time
from importlib.abc import MetaPathFinder

class Slow(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in ("math_verify", "sympy.parsing.latex", "latex2sympy2_extended"):
            time.sleep(1.5)

sys.meta_path.insert(0, Slow())
"""


def test_a_slow_import_in_a_worker_is_outside_of_the_time_limit(tmp_path):
    """The workers of a new process import for longer than a comparison may take."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_IMPORT)
    script = tmp_path / "script.py"
    script.write_text(
        "from probtune.evaluation.grading import math_strict\n"
        "from probtune.evaluation.grading.reference import math\n"
        "if __name__ == '__main__':\n"
        "    items = [math_strict.GradingItem(rf'\\boxed{{(x+{k})^2}}', f'x^2+{2*k}x+{k*k}')\n"
        "             for k in range(1, 5)]\n"
        "    for grade in (math_strict.grade, math.grade):\n"
        "        print([g.error or g.score for g in grade(items, timeout_s=1.2, workers=1)])\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stdout == "[1.0, 1.0, 1.0, 1.0]\n" * 2, done.stderr


@pytest.mark.slow
def test_a_warm_worker_imports_nothing_for_a_comparison():
    code = (
        "import logging, sys; logging.disable(logging.CRITICAL)\n"
        "from probtune.evaluation.grading.warm import warm_up\n"
        "from probtune.evaluation.grading.algebra import answers_equal\n"
        "from probtune.evaluation.grading.pool import Unparsable\n"
        "from probtune.evaluation.grading.reference.equality import equal\n"
        "from grading_cases import MATH\n"
        "warm_up(); before = set(sys.modules)\n"
        "for answer, gold, *_ in MATH:\n"
        "    equal(gold, answer)\n"
        "    try: answers_equal(gold, answer)\n"
        "    except Unparsable: pass\n"
        "assert set(sys.modules) == before, set(sys.modules) - before\n"
    )
    path = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": path})


def test_a_time_out_is_tried_again_alone(tmp_path):
    """The first run of a comparison takes too long, the second does not."""
    tasks = [(str(tmp_path / name), name) for name in "ab"]
    verdicts = compare_all(_slow_once, [*tasks, ("x", "x")], timeout_s=2, workers=2)
    assert set(verdicts.values()) == {(True, None)} and len(verdicts) == 3
    assert compare_all(_endless, [("a", "b")], timeout_s=0.5)["a", "b"] == (False, "timeout")


@pytest.mark.slow
def test_right_answers_after_endless_ones_are_tried_again_too(tmp_path):
    """Comparisons that never end come first; the others only took too long at the first try."""
    endless = [("endless", str(number)) for number in range(3)]
    slow = [(str(tmp_path / "a"), "a")]
    verdicts = compare_all(_endless_or_slow_once, [*endless, *slow], timeout_s=2, workers=2)
    assert [verdicts[task] for task in endless] == [(False, "timeout")] * 3
    assert [verdicts[task] for task in slow] == [(True, None)]


def _endless_or_slow_once(path, name):
    return _endless() if path == "endless" else _slow_once(path, name)


def _slow_once(path, name):
    if name != path and not os.path.exists(path):
        with open(path, "w") as file:
            file.write("tried")
        time.sleep(30)
    return True


def _endless(*_):
    time.sleep(30)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2.5),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "50000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "200000 100000\n",
            },
            0.5,
        ),
        ({"proc/self/cgroup": "0::/host/path\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        (
            {
                "proc/self/cgroup": "5:devices:/\n4:cpu,cpuacct:/docker/1\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us": "150000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us": "50000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
    ],
)
def test_cpu_quotas_of_containers_are_heeded(tmp_path, files, quota):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert cpu_quota(tmp_path) == quota
    bound = usable_processors(tmp_path / "nowhere")
    assert usable_processors(tmp_path) == (
        bound if quota is None else max(1, min(bound, int(quota)))
    )
