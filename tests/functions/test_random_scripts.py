"""Random scripts of definitions that refer to one another give in jobs what they give here."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from script_in_job import in_both

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = """
import contextlib, dataclasses, enum, functools
from typing import Any, Generic, NamedTuple, Optional, TypeVar
DEPTH = [0]
def tag(x, depth=0):
    if isinstance(x, (int, str)):
        return str(x)
    if depth > 5:
        return "deep"
    if isinstance(x, (tuple, list)):
        return "(" + ",".join(tag(each, depth + 1) for each in x) + ")"
    if isinstance(x, dict):
        return "{" + ",".join(sorted(map(str, x))) + "}"
    return type(x).__name__ + ":" + str(getattr(x, "__name__", ""))
def call(x):
    if DEPTH[0] > 3 or not callable(x):
        return tag(x)
    DEPTH[0] += 1
    try:
        return tag(x())
    except Exception as error:
        return type(error).__name__ + str(error)[:80]
    finally:
        DEPTH[0] -= 1
"""
# NAME is new, OLD and ELDER are of before (None for the first), ANY, LATER and LAST any at all.
SHAPES = {
    "function": "def NAME(a=OLD, *, b=ELDER):\n    return tag(a), call(ANY), tag(LATER)",
    "class": """class NAME:
    ref, many = OLD, [ELDER]
    def go(self): return call(ANY), NAME
    @classmethod
    def make(cls): return cls(), tag(LATER)
    def __call__(self): return call(LAST)""",
    "derived": "class NAME(KIND):\n    mine = OLD\n"
    "    def go(self): return call(super().go), tag(ANY)",
    "data": """@dataclasses.dataclass
class NAME:
    a: Any = None
    f: 'Optional[ANY]' = dataclasses.field(default_factory=lambda: call(OLD))
    def go(self): return call(ANY)""",
    "slots": """@dataclasses.dataclass(frozen=True, slots=True)
class NAME:
    a: Any = 1
    def go(self): return tag(ANY), call(LATER)""",
    "enum": """class NAME(enum.Enum):
    A, B = 1, 'b'
    def go(self): return call(ANY), NAME.B
    @classmethod
    def f(cls): return cls.A, tag(LATER)""",
    "registered": """NAME = {'o': OLD}
def NAME_add(what):
    NAME[what.__name__] = what
    return what
@NAME_add
def NAME_one(): return call(ANY)
@NAME_add
class NAME_K(enum.Enum):
    A = 1
    def go(self): return NAME, tag(LATER)""",
    "decorator": """def NAME(f=None):
    NAME.seen.append(f)
    @functools.wraps(f) if f else (lambda x: x)
    def inner(*a): return 'w', f and call(f), tag(ANY)
    return inner
NAME.seen = [OLD]""",
    "decorated": "@DECORATOR\ndef NAME(a=None): return call(ANY)",
    "made": "class NAME_C:\n    def __init__(self): self.o = OLD; self.me = self\n"
    "    def m(self): return call(ANY)\nNAME = NAME_C().m",
    "closure": """def NAME_make(o):
    state = [o]
    def NAME(a=None): return tag(state), call(ANY)
    return NAME
NAME = NAME_make(OLD)""",
    "cached": "@functools.lru_cache(maxsize=None)\ndef NAME(a=None): return call(ANY)",
    "dispatched": "@functools.singledispatch\ndef NAME(a=None): return call(ANY)\n"
    "@NAME.register\ndef _(a: int): return tag(LATER)",
    "named tuple": "class NAME(NamedTuple):\n    a: Any = OLD\n    b: 'ANY' = 1\n"
    "    def go(self): return call(LATER)",
    "generic": "NAME_T = TypeVar('NAME_T')\nclass NAME(Generic[NAME_T]):\n    ref = OLD\n"
    "    def go(self, x: NAME_T = None) -> 'LATER': return call(ANY)",
    "meta": """class NAME_M(type):
    made = []
    def __new__(meta, name, bases, names):
        made = super().__new__(meta, name, bases, names)
        meta.made.append(made)
        return made
class NAME(metaclass=NAME_M):
    ref = OLD
    def go(self): return call(ANY), type(self).made""",
    "subclasses": """class NAME:
    subs = []
    def __init_subclass__(cls): NAME.subs.append(cls)
    def go(self): return NAME.subs, call(ANY)
class NAME_S(NAME):
    ref = OLD""",
    "context": "@contextlib.contextmanager\ndef NAME_c():\n    yield call(ANY)\n"
    "def NAME():\n    with NAME_c() as x: return x, tag(LATER)",
    "circle": "NAME = [OLD, 1]\nNAME.append(NAME)\nNAME.append({'me': NAME, 'o': ELDER})",
    "partial": "NAME = functools.partial(call, OLD)",
    "alias": "NAME = OLD",
    "by its statement": "class NAME:\n    never = (i for i in ())\n"
    "    def go(self): return call(ANY), tag(LATER)",
}
END = """
def look(x):
    got = [tag(x), call(x), call(getattr(x, "go", None))]
    for name in ("seen", "subs", "ref", "patched", "o", "mine", "f"):
        got.append(tag(getattr(x, name, None)))
    if isinstance(x, type):
        got += [call(getattr(call, "go", None)), [base.__name__ for base in x.__mro__]]
    if isinstance(x, dict):
        got += [call(value) for _, value in sorted(x.items())]
    return got
"""


def random_script(seed: int) -> str:
    chance = random.Random(seed)
    names = [f"n{number}" for number in range(chance.choice([4, 8, 16, 40, 80]))]
    kinds: dict[str, str] = {}
    parts = [BEGIN]
    for name in names:
        shape = chance.choice(list(SHAPES))
        bases = [old for old, kind in kinds.items() if kind in ("class", "data", "generic")]
        decorators = [old for old, kind in kinds.items() if kind == "decorator"]
        if shape == "derived" and not bases:
            shape = "class"
        if shape == "decorated" and not decorators:
            shape = "decorator"
        text = SHAPES[shape].replace("NAME", name)
        for word in ("ANY", "LATER", "LAST"):
            text = text.replace(word, chance.choice(names))
        for word in ("OLD", "ELDER"):
            text = text.replace(word, chance.choice([*kinds] or ["None"]))
        text = text.replace("KIND", chance.choice(bases or ["object"]))
        parts.append(text.replace("DECORATOR", chance.choice(decorators or ["call"])))
        kinds[name] = shape
        if chance.random() < 0.3:
            old = chance.choice([*kinds])
            parts.append(f"with contextlib.suppress(Exception): {old}.patched = {name}")
    used = chance.sample(names, chance.choice([1, 3, len(names)]))
    looks = ", ".join(f"({name!r}, look({name}))" for name in used)
    same = ", ".join(f"{one} is {chance.choice(used)}" for one in used)
    return "\n".join([*parts, END, f"def check():\n    return [{looks}], [{same}]\n"])


def tried(folder: Path, seeds: range) -> None:
    for seed in seeds:
        script, job = in_both(folder / str(seed), {"main.py": random_script(seed)})
        assert job == script, f"seed {seed}"
        assert "Traceback" not in script


def test_some_random_scripts(tmp_path: Path):
    tried(tmp_path, range(39, 42))


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_many_random_scripts(tmp_path: Path):
    tried(tmp_path, range(100))
