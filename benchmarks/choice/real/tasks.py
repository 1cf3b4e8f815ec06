"""Tasks with checkable answers: rows of (prompt, response, kind), ours and others'.

The split into development and held-out tasks was made by name before anything was fitted. Tasks of
others are made or fetched when the bench runs and never stored here: reasoning-gym
(Apache-2.0, https://github.com/open-thought/reasoning-gym), and GSM8K (MIT,
https://github.com/openai/grade-school-math) from a local file.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from . import facts, texts

__all__ = [
    "DEVELOPMENT",
    "FACTS",
    "GSM8K",
    "HELD_OUT",
    "LABELS",
    "LATER",
    "LATER_FACTS",
    "TASKS",
    "TEXTS",
    "Row",
    "Task",
    "draw",
]

GSM8K = "PROBTUNE_GSM8K"
"""Environment variable with the path of GSM8K's train.jsonl; without it the task is left out."""


class Row(NamedTuple):
    """A demonstration."""

    prompt: str
    response: str
    kind: str
    """Kind of question: wrong answers of other rows come from the same kind."""


@dataclass(frozen=True)
class Task:
    """A source of distinct rows."""

    name: str
    make: Callable[[random.Random, int], list[Row]]
    """(generator, number) -> rows, with repeats removed by `draw`."""
    own: bool = True
    """True if we wrote the rows."""


_CAPITALS = """France Paris;Italy Rome;Spain Madrid;Germany Berlin;Austria Vienna;Poland Warsaw
Greece Athens;Turkey Ankara;Egypt Cairo;Kenya Nairobi;Nigeria Abuja;Ghana Accra;Japan Tokyo
China Beijing;India New Delhi;Thailand Bangkok;Vietnam Hanoi;Indonesia Jakarta;Australia Canberra
Canada Ottawa;Mexico Mexico City;Cuba Havana;Peru Lima;Chile Santiago;Argentina Buenos Aires
Brazil Brasilia;Norway Oslo;Sweden Stockholm;Finland Helsinki;Denmark Copenhagen;Iceland Reykjavik
Ireland Dublin;Portugal Lisbon;Belgium Brussels;Hungary Budapest;Romania Bucharest;Bulgaria Sofia
Serbia Belgrade;Croatia Zagreb;Ukraine Kyiv;Russia Moscow;Iran Tehran;Iraq Baghdad;Syria Damascus
Lebanon Beirut;Jordan Amman;Israel Jerusalem;Saudi Arabia Riyadh;Morocco Rabat;Algeria Algiers
Tunisia Tunis;Libya Tripoli;Sudan Khartoum;Ethiopia Addis Ababa;Uganda Kampala;Senegal Dakar
Angola Luanda;Zambia Lusaka;Zimbabwe Harare;Mongolia Ulaanbaatar;Nepal Kathmandu;Pakistan Islamabad
Bangladesh Dhaka;Sri Lanka Colombo;Myanmar Naypyidaw;Cambodia Phnom Penh;Laos Vientiane
Malaysia Kuala Lumpur;Philippines Manila;South Korea Seoul;Venezuela Caracas;Colombia Bogota
Ecuador Quito;Bolivia La Paz;Uruguay Montevideo;Paraguay Asuncion;Panama Panama City
Costa Rica San Jose;Guatemala Guatemala City;Honduras Tegucigalpa
Jamaica Kingston;Haiti Port-au-Prince
Estonia Tallinn;Latvia Riga;Lithuania Vilnius;Slovakia Bratislava;Slovenia Ljubljana;Albania Tirana
Cyprus Nicosia;Malta Valletta;Armenia Yerevan;Georgia Tbilisi;Azerbaijan Baku;Kazakhstan Astana"""

_OPPOSITES = """hot cold;big small;fast slow;up down;happy sad;light dark;hard soft;rich poor
old young;open closed;wet dry;full empty;early late;strong weak;high low;long short;thick thin
clean dirty
loud quiet;near far;deep shallow;wide narrow;heavy light;true false;good bad;left right;day night
first last;inside outside;buy sell;win lose;push pull;begin end;love hate;remember forget;rise fall
accept refuse;arrive depart;attack defend;borrow lend;break repair;cheap expensive;cruel kind
difficult easy;enter exit;fail succeed;front back;guilty innocent;laugh cry;major minor;north south
odd even;past future;polite rude;public private;question answer;raise lower;sharp blunt
simple complex;smooth rough;tight loose;victory defeat;visible invisible;war peace
wise foolish;alive dead
bitter sweet"""

_WORDS = """apple river stone window garden yellow market silver bridge candle forest bottle winter
summer doctor pencil mirror castle basket pocket island letter number orange planet rabbit saddle
ticket tunnel valley wallet wonder thunder feather kitchen monster blanket chicken diamond elephant
freedom general history journey kingdom library machine network officer package quarter rainbow
science teacher uniform village weather captain dolphin evening factory gallery hammer insect jacket
ladder magnet needle oyster pepper ribbon sailor temple velvet wagon anchor breeze copper desert
engine flower guitar harbor ivory jungle kettle lemon marble nickel olive parrot quartz rocket"""

_NAMES = "Tom Anna Ben Clara David Emma Frank Grace Henry Ida Jack Kate Leo Mia Nora Oscar".split()
_THINGS = "apples books coins pens stamps shells cards marbles cookies stickers".split()


def _pairs(text: str) -> list[tuple[str, str]]:
    """Left and right of each pair: a country's name ends before its capital's first word."""
    pairs = []
    for item in text.replace("\n", ";").split(";"):
        words = item.split()
        two = " ".join(words[:2]) in ("Saudi Arabia", "Sri Lanka", "South Korea", "Costa Rica")
        pairs.append((" ".join(words[: 1 + two]), " ".join(words[1 + two :])))
    return pairs


_CAPITAL_PAIRS, _OPPOSITE_PAIRS = _pairs(_CAPITALS), _pairs(_OPPOSITES)


def _four_kinds(rng: random.Random, number: int, *, sentences: bool) -> list[Row]:
    rows = []
    for index in range(number):
        kind = ("capital", "opposite", "next", "sort")[index % 4]
        if kind == "capital":
            left, answer = rng.choice(_CAPITAL_PAIRS)
            question, said = (
                f"What is the capital of {left}?",
                f"The capital of {left} is {answer}.",
            )
        elif kind == "opposite":
            left, answer = rng.choice(_OPPOSITE_PAIRS)
            if rng.random() < 0.5:
                left, answer = answer, left
            question, said = (
                f"What is the opposite of {left}?",
                f"The opposite of {left} is {answer}.",
            )
        elif kind == "next":
            n = rng.randrange(10, 990)
            answer = str(n + 1)
            question, said = (
                f"Which number comes after {n}?",
                f"The number after {n} is {answer}.",
            )
        else:
            numbers = rng.sample(range(1, 100), 4)
            answer = " ".join(map(str, sorted(numbers)))
            question = f"Sort these numbers: {' '.join(map(str, numbers))}"
            said = f"In order they are {answer}."
        rows.append(Row(question, said if sentences else answer, kind))
    return rows


def _count_on(rng: random.Random, number: int) -> list[Row]:
    starts = [rng.randrange(1, 900) for _ in range(number)]
    return [
        Row(f"Count on from {n}.", " ".join(str(n + k) for k in range(1, 9)), "count")
        for n in starts
    ]


def _sort_five(rng: random.Random, number: int) -> list[Row]:
    rows = []
    for _ in range(number):
        numbers = rng.sample(range(1, 100), 5)
        rows.append(
            Row(f"Sort: {' '.join(map(str, numbers))}", " ".join(map(str, sorted(numbers))), "sort")
        )
    return rows


def _addition(rng: random.Random, number: int) -> list[Row]:
    pairs = [(rng.randrange(10, 100), rng.randrange(10, 100)) for _ in range(number)]
    return [Row(f"What is {a} + {b}?", f"{a} + {b} = {a + b}", "add") for a, b in pairs]


def _spell(rng: random.Random, number: int) -> list[Row]:
    words = _WORDS.split()
    names = [rng.choice(words) + rng.choice(["", "s", "ing", "er"]) for _ in range(number)]
    return [Row(f"Spell the word {w} with dashes.", "-".join(w), "spell") for w in names]


def _upper(rng: random.Random, number: int) -> list[Row]:
    words = _WORDS.split()
    rows = []
    for _ in range(number):
        text = " ".join(rng.sample(words, 2))
        rows.append(Row(f"Write in capitals: {text}", text.upper(), "upper"))
    return rows


def _steps(rng: random.Random, number: int) -> list[Row]:
    """Worked: a sum of four numbers, one step at a time."""
    rows = []
    for _ in range(number):
        terms = [rng.randrange(3, 30) for _ in range(4)]
        total, lines = terms[0], []
        for term in terms[1:]:
            lines.append(f"{total} + {term} = {total + term}")
            total += term
        said = f"{'; '.join(lines)}. The sum is {total}."
        rows.append(Row(f"Add step by step: {', '.join(map(str, terms))}", said, "steps"))
    return rows


def _shop(rng: random.Random, number: int) -> list[Row]:
    """Worked word problems of three kinds."""
    rows = []
    for index in range(number):
        name, thing = rng.choice(_NAMES), rng.choice(_THINGS)
        a, b, c = rng.randrange(12, 60), rng.randrange(3, 12), rng.randrange(2, 10)
        kind = ("buy", "give", "share")[index % 3]
        if kind == "buy":
            question = f"{name} has {a} {thing} and buys {b} boxes of {c}. How many {thing} in all?"
            said = (
                f"The boxes hold {b} times {c}, which is {b * c} {thing}. With the {a} from before"
                f" that makes {a + b * c}. Answer: {a + b * c}"
            )
        elif kind == "give":
            question = f"{name} has {a} {thing}, gives away {b} and finds {c}. How many are left?"
            said = (
                f"After giving away {b} of {a} there are {a - b} {thing}. Finding {c} more makes"
                f" {a - b + c}. Answer: {a - b + c}"
            )
        else:
            question = f"{b} friends have {c} {thing} each and {name} has {a}. How many together?"
            said = (
                f"The friends have {b} times {c}, so {b * c} {thing}. Together with {name} they"
                f" have {b * c + a}. Answer: {b * c + a}"
            )
        rows.append(Row(question, said, kind))
    return rows


_TOPICS = {
    "Sports": (
        "The home side scored {} goals after the break.",
        "The marathon was won by a runner aged {}.",
        "The coach praised the {} young players of the team.",
    ),
    "Food": (
        "Bake the bread for {} minutes until the crust is brown.",
        "The recipe needs {} eggs and a cup of flour.",
        "The new restaurant serves {} kinds of soup.",
    ),
    "Weather": (
        "Heavy rain is expected, with winds of {} kilometres per hour.",
        "Temperatures will fall to minus {} degrees tonight.",
        "It has been sunny for {} days in a row.",
    ),
    "Money": (
        "The bank raised its interest rate for the {}th time.",
        "Shares of the company fell by {} percent.",
        "The budget leaves {} million for roads.",
    ),
}
_PRAISE = "wonderful brilliant moving delightful superb charming excellent gripping".split()
_BLAME = "boring terrible clumsy dreadful awful dull disappointing weak".split()
_PARTS = ("plot", "acting", "music", "ending", "dialogue", "camera work", "pace")
_WHEN = ("yesterday", "with my sister", "on a plane", "twice", "last week", "at home")


def _topic(rng: random.Random, number: int) -> list[Row]:
    rows = []
    for _ in range(number):
        topic = rng.choice(list(_TOPICS))
        town = rng.choice(_CAPITAL_PAIRS)[1]
        sentence = rng.choice(_TOPICS[topic]).format(rng.randint(3, 90))
        question = "Choose the topic of this sentence: Sports, Food, Weather or Money."
        rows.append(Row(f"{question}\n\n{town}: {sentence}", topic, "topic"))
    return rows


def _review(rng: random.Random, number: int) -> list[Row]:
    rows = []
    for _ in range(number):
        label, words = rng.choice((("Positive", _PRAISE), ("Negative", _BLAME)))
        (first, second), (a, b) = rng.sample(_PARTS, 2), rng.sample(words, 2)
        text = rng.choice(
            (
                f"The {first} was {a} and the {second} {b}.",
                f"I had heard a lot of the {first}: it was {a}, and everything else {b}.",
            )
        )
        question = "Is this review positive or negative?"
        rows.append(Row(f"{question}\n\nI saw it {rng.choice(_WHEN)}. {text}", label, "review"))
    return rows


def _gym(
    name: str, *, short: bool = False, **options: object
) -> Callable[[random.Random, int], list[Row]]:
    """Rows of a reasoning-gym generator. Short: questions of less than 450 characters, answers of
    less than 100.
    """

    def make(rng: random.Random, number: int) -> list[Row]:
        import reasoning_gym

        data = reasoning_gym.create_dataset(name, size=number, seed=rng.randrange(10**9), **options)
        return [
            Row(item["question"].strip(), item["answer"], name)
            for item in data
            if not short or (len(item["question"]) < 450 and len(item["answer"]) < 100)
        ]

    return make


def _gsm8k(rng: random.Random, number: int) -> list[Row]:
    """Short ones of GSM8K: worked answers of at most 300 characters, calculator marks removed."""
    import re

    path = Path(os.environ[GSM8K])
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        answer = re.sub(r"<<.*?>>", "", item["answer"])
        if len(answer) <= 200 and len(item["question"]) <= 250:
            rows.append(Row(item["question"], answer, "gsm8k"))
    rng.shuffle(rows)
    return rows[:number]


def _drawn(
    questions: Callable[[random.Random, str, int], list[tuple[str, str]]], name: str
) -> Callable[[random.Random, int], list[Row]]:
    def make(rng: random.Random, number: int) -> list[Row]:
        return [Row(*row, kind=name) for row in questions(rng, name, number)]

    return make


_OTHERS = (
    *("simple_equations", "aiw", "complex_arithmetic", "lcm", "gcd", "coin_flip", "count_primes"),
    *("calendar_arithmetic", "count_bits", "decimal_chain_sum", "products", "caesar_cipher"),
    *("fraction_simplification", "time_intervals", "prime_factorization", "number_filtering"),
    *("word_sequence_reversal", "syllogism", "leg_counting", "number_format", "ransom_note"),
)
_LATER = tuple(
    Task(f"gym-{name.replace('_', '-')}", _gym(name, short=True), own=False) for name in _OTHERS
)
_ALL = (
    Task("mixed-sentences", lambda rng, n: _four_kinds(rng, n, sentences=True)),
    Task("count-on", _count_on),
    Task("spell", _spell),
    Task("steps", _steps),
    Task("gym-chain-sum", _gym("chain_sum"), own=False),
    Task("gym-family", _gym("family_relationships"), own=False),
    Task("mixed-terse", lambda rng, n: _four_kinds(rng, n, sentences=False)),
    Task("sort", _sort_five),
    Task("addition", _addition),
    Task("upper", _upper),
    Task("shop", _shop),
    Task("gym-spell-backward", _gym("spell_backward"), own=False),
    Task("gym-reordering", _gym("sentence_reordering"), own=False),
    Task("gym-arithmetic", _gym("basic_arithmetic"), own=False),
    Task("gym-letters", _gym("letter_counting"), own=False),
    Task("gym-words", _gym("word_sorting", max_words=5), own=False),
    Task("gsm8k", _gsm8k, own=False),
    Task("topic", _topic),
    Task("review", _review),
    *_LATER,
    *(Task(name, _drawn(facts.questions, name)) for name in (*facts.names(), *facts.LATER)),
    *(Task(f"text-{name}", _drawn(texts.questions, name)) for name in texts.names()),
)
FACTS = facts.names()
"""Tasks of which the model knows some answers: a look at the estimate alone, trained by nobody."""
LATER_FACTS = facts.LATER
"""Such tasks that came after the limits."""
TEXTS = tuple(f"text-{name}" for name in texts.names())
"""Texts to be rewritten, which came after the limits: a look at the estimate alone."""
LABELS = ("topic", "review")
"""Tasks whose answer is one of a few labels: a look at the estimate alone, trained by nobody."""
LATER = tuple(task.name for task in _LATER)
"""Tasks of others, without wrong rows, that were looked at when every limit but one was set: a
look at the estimate alone. The one is that a model which has lost its way accuses nobody.
"""

_HELD_OUT = (
    *("mixed-terse", "sort", "addition", "upper", "shop"),
    *("gym-spell-backward", "gym-reordering", "gsm8k"),
    *("gym-arithmetic", "gym-letters", "gym-words"),
)

TASKS = {task.name: task for task in _ALL}
HELD_OUT = tuple(name for name in TASKS if name in _HELD_OUT)
DEVELOPMENT = tuple(name for name in TASKS if name not in _HELD_OUT)


def draw(task: Task, number: int, seed: int) -> list[Row]:
    """Draw distinct rows, fewer if the task has no more."""
    rng = random.Random(f"{task.name} {seed}")
    rows: dict[str, Row] = {}
    for _ in range(20):
        for row in task.make(rng, number):
            rows.setdefault(row.prompt, row)
        if len(rows) >= number:
            break
    chosen = list(rows.values())
    rng.shuffle(chosen)
    return chosen[:number]
