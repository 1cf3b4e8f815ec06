"""Families give right answers, noise corrupts what was asked, the grid resumes."""

import numpy as np
import pytest

from benchmarks.choice import design, families, noise
from benchmarks.choice.bases import Bases, Setting
from benchmarks.choice.bench import Run, shards
from benchmarks.choice.cell import Budget, _answer
from benchmarks.choice.stacked import initial
from benchmarks.choice.world import World, problems, respond
from probtune.terminal import Terminal

WORLD = World(0)


def texts(family, *, new):
    x = family.draw(np.random.default_rng(1), 40)
    shown, said = family.show(x), respond(WORLD, family, x, new=new)
    return [
        (WORLD.text(a).split(), WORLD.text(b).split()) for a, b in zip(shown, said, strict=True)
    ]


def plain(word):
    """The word that a disguised one stands for."""
    ids = {WORLD.text(np.array([i])): i for i in range(WORLD.size)}
    return WORLD.text(np.array([np.flatnonzero(WORLD.disguise == ids[word])[0]]))


def chain(words):
    sums = np.cumsum([int(w) for w in words]) % 10
    return [*map(str, sums[1:]), "|", str(sums[-1])]


def larger(words):
    return [max(words[i], words[i + 1]) for i in (0, 2, 4)]


def addition(words):
    a, b = int("".join(words[:2])), int("".join(words[3:]))
    assert words[2] == "+"
    low = a % 10 + b % 10
    high = a // 10 + b // 10 + low // 10
    return [*(str(v) for v in (low % 10, low // 10, high % 10, high // 10)), "|", *f"{a + b:03d}"]


RULES = {
    "chain": chain,
    "reverse": lambda words: words[::-1],
    "larger": larger,
    "addition": addition,
    "ordering": sorted,
    "layout": lambda words: [words[1], ",", words[3], ",", words[5]],
}
NEW_RULES = {
    "ordering": lambda words: sorted(words, reverse=True),
    "layout": lambda words: ["<", words[5], ";", words[3], ";", words[1], ">"],
}


@pytest.mark.parametrize("name", RULES)
def test_answers_are_right_in_both_forms(name):
    family = families.FAMILIES[name](WORLD)
    for shown, said in texts(family, new=False):
        assert said == RULES[name](shown)
    for shown, said in texts(family, new=True):
        expected = NEW_RULES.get(name, RULES[name])(shown)
        assert [w if name in NEW_RULES else plain(w) for w in said] == expected


def test_glyphs_are_drawn_by_letter_and_lookup_has_one_answer_per_key_and_form():
    drawings, facts = {}, {}
    for shown, said in texts(families.glyphs(WORLD), new=False):
        for i, letter in enumerate(said):
            drawing = (*shown[2 * i : 2 * i + 2], *shown[6 + 2 * i : 8 + 2 * i])
            assert drawings.setdefault(letter, drawing) == drawing
    assert len(set(drawings.values())) == len(drawings)
    for new in (False, True):
        for shown, said in texts(families.lookup(WORLD), new=new):
            assert facts.setdefault((new, *shown), said) == said
    assert any(facts[False, a, b] != facts.get((True, a, b)) for _, a, b in list(facts))


def test_the_split_names_every_family_and_kind_once():
    assert not set(families.DEVELOPMENT) & set(families.HELD_OUT)
    assert not set(noise.DEVELOPMENT) & set(noise.HELD_OUT)
    assert len(families.FAMILIES) == 8 and len(noise.KINDS) == 6


def test_every_row_of_several_templates_is_answered_by_its_own():
    sums = RULES["chain"]
    rules = {
        "mixed": {
            ",": lambda digits: digits[::-1],
            ";": sorted,
            "+": lambda digits: [max(digits[:2]), max(digits[2:])],
        },
        "mixed_long": {",": sums, ";": lambda digits: digits[::-1], "+": lambda d: d[-1:]},
    }
    for name, of_sign in rules.items():
        family = families.MIXED[name](WORLD)
        signs = set()
        for (sign, *digits), said in texts(family, new=False):
            signs.add(sign)
            assert said == of_sign[sign](digits)
        assert signs == set(of_sign)


def test_the_second_confirmation_shares_no_family_with_the_first():
    cells = design.second_confirmation()
    assert len({c.name for c in cells}) == len(cells) == 40
    assert not {c.family for c in cells} & set(families.FAMILIES)
    assert {c.kind for c in cells} == {"none", "slips", *noise.LATER}
    assert {design.split_of(c) for c in cells} == {"second confirmation"}


@pytest.mark.parametrize("kind", [*noise.KINDS, *noise.LATER])
def test_noise_touches_the_share_asked_for_and_leaves_a_mask(kind):
    for name, function in {**families.FAMILIES, **families.MIXED}.items():
        setting = Setting.of(function, 0)
        x = setting.family.draw(np.random.default_rng(2), 200)
        corrupted = noise.corrupt(
            np.random.default_rng(3),
            setting.world,
            setting.family,
            x,
            kind=kind,
            rate=0.3,
            room=setting.room,
        )
        assert corrupted.corrupted.sum() == 60
        right = respond(setting.world, setting.family, corrupted.x, new=True)
        clean = problems(
            setting.world, setting.family, corrupted.x, right, new=True, room=setting.room
        )
        differs = (clean.ids != corrupted.ids).any(1)
        expected = corrupted.corrupted if kind in noise.WRONG_LABELS else np.zeros(200, bool)
        assert (differs == expected).all(), name
        assert (corrupted.x[~corrupted.corrupted] == x[~corrupted.corrupted]).all()


def test_a_rate_or_kind_that_cannot_be_is_said():
    family = families.chain(WORLD)
    x = family.draw(np.random.default_rng(0), 4)
    with pytest.raises(ValueError, match="rate must be in"):
        noise.corrupt(np.random.default_rng(0), WORLD, family, x, kind="slips", rate=1.5, room=9)
    with pytest.raises(ValueError, match="kind must be one of uniform"):
        noise.corrupt(np.random.default_rng(0), WORLD, family, x, kind="typos", rate=0.1, room=9)


def test_the_answer_is_what_follows_the_last_bar_and_must_end():
    assert _answer([1, 2, 30, 4, 99, 7], end=99, bar=30) == [4]
    assert _answer([1, 2, 99], end=99, bar=30) == [1, 2]
    assert _answer([1, 2], end=99, bar=30) is None


def test_every_prefix_of_the_design_is_balanced_and_stays_when_it_grows():
    three = design.design(3)
    assert [c.name for c in design.design(2)] == [c.name for c in three[:80]]
    assert len({c.name for c in three}) == 120
    for k in range(3):
        batch = three[40 * k : 40 * (k + 1)]
        assert len({(c.family, c.level) for c in batch}) == 40
        assert max(sum(c.rate == r for c in batch) for r in noise.RATES) <= 8
    pairs = {(c.family, c.level, c.rate) for c in three}
    assert len(pairs) == 120  # a pair never meets a rate twice


def test_confirmation_cells_are_held_out_and_apart_from_what_was_fitted():
    first = {c.name for c in design.design(design.FITTED_BATCHES)}
    cells = design.confirmation()
    assert len(cells) > 30 and not first & {c.name for c in cells}
    assert all(design.is_held_out(c) != "development" for c in cells)
    assert {design.split_of(c) for c in cells} == {"confirmation"}
    assert design.split_of(design.design(1)[0]) == design.is_held_out(design.design(1)[0])


class Small(Run):
    """Untrained bases: the machinery is under test, not learning."""

    def _base(self, family, seed, setting):
        base = initial(setting.shape, seed)
        return Bases(dict.fromkeys((0.0, 0.3, 0.6), base), {}, 0, 0, "level out of reach")


FAMILY = '''
import numpy as np
from benchmarks.choice.world import Family

def echo(world):
    """Two letters again."""
    return Family(lambda rng, n: rng.choice(world.letters, (n, 2)), lambda x: x)

def broken(world):
    return 3
'''


def test_a_stopped_run_goes_on_and_ends_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.choice.cell.BUDGETS", {"short": Budget(32, 6)})
    monkeypatch.setattr("benchmarks.choice.cell.TEST", 8)
    (tmp_path / "mine.py").write_text(FAMILY)
    echo = dict([families.external(f"{tmp_path / 'mine.py'}:echo")])
    cells = [c for c in design.design(4, names=("echo",)) if c.budget == "short"][:3]
    assert len(cells) == 3
    runs = [Small(tmp_path / name, seeds=(0,), width=16, families=echo) for name in "ab"]
    runs[0].all(cells, Terminal(quiet=True))
    assert runs[1].all(cells, Terminal(quiet=True), limit=1) == 1
    assert len(runs[1].todo(cells)) == 2
    assert runs[1].all(cells, Terminal(quiet=True)) == 2
    first, second = ([r for r, _ in shards(tmp_path / name)] for name in "ab")
    for one, other in zip(first, second, strict=True):
        for record in (one, other):
            record.pop("seconds", None)
        assert one == other
    assert any("failed" in r for r in first) == any(c.level > 0.6 for c in cells)


def test_a_family_from_outside_is_checked(tmp_path):
    (tmp_path / "mine.py").write_text(FAMILY)
    with pytest.raises(ValueError, match="no such file"):
        families.external("nowhere.py:echo")
    with pytest.raises(ValueError, match="has no function 'ecko'; it has Family, broken, echo"):
        families.external(f"{tmp_path / 'mine.py'}:ecko")
    with pytest.raises(ValueError, match="must return a Family, got int"):
        families.external(f"{tmp_path / 'mine.py'}:broken")
