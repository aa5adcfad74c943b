"""Lives of pipelines: scripts that are run, edited as people do, killed, and gone on with.

A `Program` says what a script is; `files` writes it as a person would, with modules of its own. A
`Life` runs it in a folder and checks each time that items, keys and order are those of plain
Python today, and that no more was called than that takes. Scripts run in processes forked from
`Shell`, jobs in those forked from `Jobs`, which loads what run directories bring: so a run takes
some tens of milliseconds, and no process has seen another's modules. A life on a pool is submitted
to it; its functions tell of their calls in a folder that execute points see.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
import traceback
import types
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).resolve().parent
TAG = "life"

# --- programs -------------------------------------------------------------------------------


class Stage(NamedTuple):
    """One stage of a program: what it does, how its function is written, and what it reads."""

    id: int
    kind: str
    form: str
    n: int
    above: int
    other: int
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Program:
    """What a script says."""

    items: tuple[str, ...]
    stages: tuple[Stage, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    targets: tuple[int, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    remarks: int = 0


BODIES = {
    "map": ("x", "(x + str(n))[-8:]"),
    "filter": ("x", "len(x) % 3 != n"),
    "flat_map": ("x", "[x[:2], x[n:]] if len(x) != n else []"),
    "fails": ("x", "failing(x, n)"),
    "flaky": ("x", "(flaky(x) + str(n))[-8:]"),
    "bind": ("x, bound", "(x + str(len(bound)) + bound[0][:1] + str(n))[-8:]"),
    "binds": ("x, first, second", "(x + str(len(first)) + str(len(second)) + str(n))[-8:]"),
    "grab": ("x, bound", "spoiled(x, bound, n)"),
    "reduce": ("a, b", "(a + b)[-12:]"),
    "tree": ("a, b", "(a + b)[-12:]"),
    "ordered": ("a, b", "f'({a}{b}{n})'[-12:]"),
    "fold": ("a, b", "(a + b)[-12:]"),
    "count": ("x", "str(x + n)"),
    "group": ("x", "len(x) // (n + 1)"),
    "by_key": ("x", "len(x) // (n + 1)"),
    "distinct": ("x", "x[n:]"),
    "sort": ("x", "(len(x) // (n + 1), x[n:])"),
    "take": ("x", "(x + str(n))[-8:]"),
    "batch": ("x", "(''.join(x) + str(n))[-9:]"),
    "enumerate": ("i, x", "(str(i) + x + str(n))[-9:]"),
    "zip": ("a, b", "(a + str(n) + b)[-9:]"),
    "product": ("a, b", "(a + str(n) + b)[-9:]"),
    "combinations": ("a, b", "(a + str(n) + b)[-9:]"),
    "concat": ("x", "(x + str(n))[-8:]"),
    "in_place": ("x", "grown(x, n)"),
    "own": ("x", "x.step(n)"),
    "loop": ("x", "(x + str(n))[-8:]"),
}
"""The parameters of the function of each kind, and what it gives; ``n`` is its number."""

STAGES = {
    "map": "{above}.map({s}, name='{m}'{o})",
    "filter": "{above}.filter({s}, name='{m}'{o})",
    "flat_map": "{above}.flat_map({s}, name='{m}'{o})",
    "fails": "{above}.map({s}, name='{m}'{o})",
    "flaky": "{above}.map({s}, name='{m}'{o})",
    "bind": "{above}.map({s}, name='{m}', bind={{'bound': many({other})}}{o})",
    "binds": "{above}.map({s}, name='{m}', bind={{'first': many({other}), 'second': items}}{o})",
    "grab": "{above}.map({s}, name='{m}', bind={{'bound': many({other}).map(list)}}{o})",
    "reduce": "{above}.reduce({s}, name='{m}', initial='{n}'{o})",
    "tree": "{above}.reduce({s}, name='{m}', initial='', fan_in=2{o})",
    "ordered": "{above}.reduce({s}, name='{m}', initial='{n}', associative=False{o})",
    "fold": "{above}.fold({s}, joined, name='{m}', initial=''{o})",
    "count": "{above}.count(name='{m}c').map({s}, name='{m}'{o})",
    "group": "{above}.group_by({s}, name='{m}g'{o}).starmap(grouped, name='{m}')",
    "by_key": "{above}.reduce_by_key(joined, key={s}, name='{m}g'{o}).starmap(paired, name='{m}')",
    "distinct": "{above}.distinct({s}, name='{m}'{o})",
    "sort": "{above}.sort_by({s}, name='{m}'{o})",
    "take": "{above}.take({n} + 2, name='{m}t').map({s}, name='{m}'{o})",
    "batch": "{above}.batch({n} + 1, name='{m}b').map({s}, name='{m}'{o})",
    "enumerate": "{above}.enumerate({n}, name='{m}e').starmap({s}, name='{m}'{o})",
    "zip": "{above}.zip({other}, name='{m}z').starmap({s}, name='{m}'{o})",
    "product": "{above}.take(3).product({other}.take(2), name='{m}p').starmap({s}, name='{m}'{o})",
    "combinations": "{above}.take(4).combinations(2, name='{m}c').starmap({s}, name='{m}'{o})",
    "concat": "{above}.concat({other}, name='{m}c').map({s}, name='{m}'{o})",
    "in_place": "both_ways({above}.map(list, name='{m}l'), {s}, '{m}'{o})",
    "own": "{above}.map(classes.Box, name='{m}b').map({s}, name='{m}'{o})",
    "loop": "htdag.iterate(lambda state: state.map({s}), many({above}).take(4), name='{m}', "
    "max_rounds={n} + 1).map(str, name='{m}r')",
}
COMBINING = ("reduce", "tree", "ordered", "fold", "count")
KEYED = ("group", "by_key", "distinct", "sort")
VIEWS = ("take", "batch", "enumerate", "zip", "product", "combinations", "concat", "loop")
EXACT = ("map", "filter", "flat_map", "fails", "own")
"""Kinds whose functions are called for the items of a source that are new, and for no others."""

FORMS = {
    "literal": {"let": "n = {n}"},
    "constant": {"script": "N{i} = {n}\n", "let": "n = N{i}"},
    "dunder": {"script": "__n{i} = {n}\n", "let": "n = __n{i}"},
    "later": {"let": "n = L{i}", "end": "L{i} = {n}\n"},
    "helper": {"helpers": "def h{i}():\n    return {n}\n", "let": "n = helpers.h{i}()"},
    "imported": {
        "consts": "N{i} = {n}\n",
        "script": "from own.consts import N{i} as M{i}\n",
        "let": "n = M{i}",
    },
    "attribute": {"consts": "A{i} = {n}\n", "let": "n = own.consts.A{i}"},
    "inside": {"consts": "I{i} = {n}\n", "let": "from own.consts import I{i} as n"},
    "default": {"more": ", n={n}"},
    "keyword only": {"more": ", *, n={n}"},
    "closure": {"wrap": "def make{i}(n):\n{def}\n    return s{i}\ns{i} = make{i}({n})\n"},
    "partial": {"more": ", n=9", "after": "s{i} = functools.partial(s{i}, n={n})\n"},
    "decorated": {"more": ", n=9", "before": "@helpers.with_n({n})\n"},
    "method": {
        "wrap": "class C{i}:\n    def __init__(self, n):\n        self.n = n\n{def}\n"
        "s{i} = C{i}({n}).s{i}\n",
        "self": "self, ",
        "let": "n = self.n",
    },
    "class": {"classes": "class K{i}:\n    n = {n}\n", "let": "n = classes.K{i}.n"},
    "inherited": {
        "classes": "class Base{i}:\n    n = {n}\nclass Of{i}(Base{i}):\n    pass\n",
        "let": "n = classes.Of{i}().n",
    },
    "bases": {
        "classes": "class X{i}:\n    n = 0\nclass Y{i}:\n    n = 1\nclass Z{i}:\n    n = 2\n"
        "class XYZ{i}({bases}):\n    pass\n",
        "let": "n = classes.XYZ{i}.n",
    },
    "enum": {"script": "class E{i}(enum.Enum):\n    N = {n}\n", "let": "n = E{i}.N.value"},
    "dataclass": {
        "script": "@dataclasses.dataclass\nclass D{i}:\n    n: int = {n}\n",
        "let": "n = D{i}().n",
    },
    "field": {
        "classes": "@dataclasses.dataclass\nclass F{i}:\n"
        "    n: int = dataclasses.field(default=0, metadata={{'n': {n}}})\n",
        "let": "n = dataclasses.fields(classes.F{i})[0].metadata['n']",
    },
    "metaclass": {
        "classes": "class Meta{i}(type):\n    def __len__(cls):\n        return {n}\n"
        "class OfMeta{i}(metaclass=Meta{i}):\n    pass\n",
        "let": "n = len(classes.OfMeta{i})",
    },
    "match args": {
        "classes": "class P{i}:\n    __match_args__ = ('abc'[{n}],)\n    a, b, c = 0, 1, 2\n",
        "let": "match classes.P{i}():\n        case classes.P{i}(n):\n            pass",
    },
    "property": {
        "classes": "class Q{i}:\n    @property\n    def n(self):\n        return {n}\n",
        "let": "n = classes.Q{i}().n",
    },
    "keywords": {"let": "n = helpers.named({word}=1)"},
    "manager": {
        "script": "@contextlib.contextmanager\ndef c{i}():\n    yield {n}\n",
        "let": "with c{i}() as n:\n        pass",
    },
    "table": {"script": "T{i} = {{'n': {n}}}\n", "let": "n = T{i}['n']"},
    "set": {"script": "S{i} = frozenset({{{n}, -1, -2}})\n", "let": "n = max(S{i})"},
    "config": {
        "config": "{n}",
        "consts": "G{i} = int((pathlib.Path(__file__).parent / 'config{i}.txt').read_text())\n",
        "let": "n = own.consts.G{i}",
    },
    "dispatch": {
        "script": "@functools.singledispatch\ndef d{i}(x):\n    return 9\n"
        "@d{i}.register(str)\ndef _(x):\n    return {n}\n",
        "let": "n = d{i}('a')",
    },
    "registered": {
        "classes": "class R{i}(abc.ABC):\n    pass\nfor one in [(), (str,), (str, bytes)][{n}]:\n"
        "    R{i}.register(one)\n",
        "let": "n = sum(isinstance(one, classes.R{i}) for one in ('', b''))",
    },
    "shadow": {
        "module": "def abs(x):\n    return {n}\ndef h(x):\n    return abs(x)\n",
        "script": "import own.m{i}\n",
        "let": "n = own.m{i}.h(1)",
    },
    "getattr": {
        "module": "def __getattr__(name):\n    if name == 'N':\n        return {n}\n"
        "    raise AttributeError(name)\n",
        "script": "import own.m{i}\n",
        "let": "n = own.m{i}.N",
    },
    "exec": {
        "script": "x{i} = {{}}\nexec('def f():\\n    return {n}', x{i})\n",
        "let": "n = x{i}['f']()",
    },
    "nested": {"let": "n = (lambda: (lambda: {n})())()"},
    "cached": {
        "script": "@functools.lru_cache\ndef k{i}():\n    return {n}\n",
        "let": "n = k{i}()",
    },
    "wrapped": {
        "script": "@helpers.plainly\ndef w{i}():\n    return {n}\n",
        "let": "n = w{i}()",
    },
}
"""How a function comes to its number, as text: in the script, in its modules, in itself."""

SCRIPT = """\
import abc, contextlib, dataclasses, enum, functools, os, pathlib

import htdag
import own.consts
from own import classes, helpers
from own.noting import failing, flaky, grown, note, spoiled

FOLDER = pathlib.Path(os.path.dirname(os.path.abspath(__file__)))

def joined(a, b):
    return (a + b)[-12:]

def grouped(key, texts):
    return f"{key}{''.join(texts)}"[-9:]

def paired(key, text):
    return f"{key}{text}"

def shown(texts):
    return "".join(texts)

def text_of(path) -> str:
    return path.read_text()

def many(stage):
    return stage.concat(stage)

def both_ways(lists, function, name, **options):
    changed = lists.map(function, name=name + "i", **options)
    return changed.zip(lists.map(shown, name=name + "s")).starmap(joined, name=name)

"""
OWN = "import abc, contextlib, dataclasses, enum, functools, os, pathlib\n\n"
HELPERS = """
def with_n(number):
    def decorate(function):
        @functools.wraps(function)
        def wrapper(*values, **named):
            return function(*values, n=number, **named)
        return wrapper
    return decorate

def plainly(function):
    @functools.wraps(function)
    def wrapper(*values):
        return function(*values)
    return wrapper

def named(**given):
    return "abc".index(next(iter(given)))

"""
CLASSES = """
class Box:
    made = 0

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return f"Box({self.text})"

    def step(self, n):
        self.text = (self.text + str(n))[-8:]
        return self.text

"""
NOTING = '''
import json, os, signal, time, zlib

FOLDER = {folder!r}

def note(name, *values):
    """Tell that a function was called; where a bomb is set, kill something at this call."""
    if FOLDER is None:
        return
    line = json.dumps([name, repr(values)]) + "\\n"
    file = os.open(os.path.join(FOLDER, "calls"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(file, line.encode())
    os.close(file)
    bomb = os.path.join(FOLDER, "bomb")
    if os.path.exists(bomb):
        explode(bomb)

def explode(bomb):
    with open(os.path.join(FOLDER, "calls")) as file:
        number = sum(1 for _ in file)
    try:
        with open(bomb) as file:
            when, what, state = json.load(file)
        if number < when:
            return
        os.rename(bomb, bomb + ".gone")
    except FileNotFoundError:
        return
    if what == "worker":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "job":
        os.kill(os.getppid(), signal.SIGKILL)
    else:
        with open(state) as file:
            os.kill(json.load(file)["pid"], signal.SIGKILL)
    time.sleep(5)

def failing(text, n):
    if n != 2 and zlib.crc32(text.encode()) % 4 == 0:
        raise ValueError(text)
    return text + "."

def flaky(text):
    if FOLDER is not None and zlib.crc32(text.encode()) % 3 == 0:
        if os.path.exists(os.path.join(FOLDER, "weather")):
            raise OSError(text)
    return text

def grown(letters, n):
    letters.append(str(n))
    return "".join(letters)[-8:]

def spoiled(text, bound, n):
    bound.append(text)
    bound[0].append("!")
    return text[-6:] + str(len(bound)) + str(len(bound[0])) + str(n)
'''


def files(program: Program, folder: str) -> dict[str, str]:
    """Return the text of each file of a program."""
    texts = {
        "script.py": SCRIPT,
        "own/__init__.py": "",
        "own/consts.py": OWN,
        "own/helpers.py": OWN + HELPERS,
        "own/classes.py": OWN + CLASSES,
        "own/noting.py": NOTING.format(folder=folder),
    }
    end = ""
    for stage in program.stages:
        form = FORMS[stage.form]
        filled = {
            "i": stage.id,
            "n": stage.n,
            "word": "abc"[stage.n],
            "bases": ", ".join(f"{'XYZXY'[stage.n + k]}{stage.id}" for k in range(3)),
        }
        for name in ("consts", "helpers", "classes"):
            texts[f"own/{name}.py"] += form.get(name, "").format(**filled)
        if "module" in form:
            texts[f"own/m{stage.id}.py"] = form["module"].format(**filled)
        if "config" in form:
            texts[f"own/config{stage.id}.txt"] = form["config"].format(**filled)
        texts["script.py"] += form.get("script", "").format(**filled) + _function(stage, filled)
        end += form.get("end", "").format(**filled)
    texts["script.py"] += end + "#\n" * program.remarks + _pipeline(program)
    texts["own/helpers.py"] += "# a remark\n" * program.remarks
    for name, content in program.files:
        texts[f"data/{name}"] = content
    return texts


def _function(stage: Stage, filled: dict[str, Any]) -> str:
    form = FORMS[stage.form]
    parameters, body = BODIES[stage.kind]
    lines = [
        form.get("before", "").format(**filled).rstrip("\n"),
        f"def s{stage.id}({form.get('self', '')}{parameters}{form.get('more', '')}):".format(
            **filled
        ),
        f"    note('s{stage.id}', {parameters})",
    ]
    if "let" in form:
        lines.append("    " + form["let"].format(**filled))
    text = "\n".join(line for line in [*lines, f"    return {body}", ""] if line)
    if "wrap" in form:
        text = form["wrap"].replace("{def}", "\0").format(**filled)
        text = text.replace(
            "\0", textwrap.indent("\n".join([*lines[1:], f"    return {body}"]), "    ")
        )
    else:
        text += "\n"
    return text + form.get("after", "").format(**filled)


def _pipeline(program: Program) -> str:
    defaults = dict(program.options)
    chunk = defaults.pop("source_chunk", None)
    lines = [f"items = htdag.source({list(program.items)!r}, name='items', chunk_size={chunk})"]
    names = ["items"]
    if program.files:
        lines += [
            "found = htdag.files(sorted(FOLDER.glob('data/*')), name='files')",
            "texts = found.map(text_of, name='texts')",
        ]
        names.append("texts")
    for stage in program.stages:
        above = names[-1] if stage.above > 4 else names[stage.above % len(names)]
        options = "".join(f", {name}={value!r}" for name, value in stage.options)
        made = STAGES[stage.kind].format(
            above=above,
            other=names[stage.other % len(names)],
            s=f"s{stage.id}",
            m=f"m{stage.id}",
            n=stage.n,
            o=options,
        )
        lines.append(f"m{stage.id} = {made}")
        names.append(f"m{stage.id}")
    targets = dict.fromkeys([names[-1], *(names[n % len(names)] for n in program.targets)])
    options = "".join(f", {name}={value!r}" for name, value in defaults.items())
    lines.append(
        f"flow = htdag.Pipeline({', '.join(targets)}, name='life', history=False{options})"
    )
    return "\n".join(lines) + "\n"


KNOWN: dict[str, str] = {}
"""Kinds and forms that are known to go wrong, and whose part it is: to be empty."""


# --- edits ----------------------------------------------------------------------------------

WORDS = ("a", "b", "ab", "abc", "ca", "cc", "bca", "bb")
OPTIONS: tuple[tuple[tuple[str, Any], ...], ...] = (
    (),
    (("fuse", False),),
    (("chunk_size", 2),),
    (("request_memory", "1GB"),),
    (("chunk_size", 3), ("fuse", False)),
)
Edit = "Callable[[Program, int, int], Program]"


def _items(change: Callable[[list[str], int, int], None]) -> Callable[..., Program]:
    def edit(program: Program, a: int, b: int) -> Program:
        items = list(program.items)
        change(items, a % len(items), b)
        return replace(program, items=tuple(items or ["a"]))

    return edit


def _swapped(items: list[str], a: int, b: int) -> None:
    items[a], items[b % len(items)] = items[b % len(items)], items[a]


def _changed(items: list[str], a: int, b: int) -> None:
    items[a] = WORDS[b % len(WORDS)] + "n"


def _files(change: Callable[[dict[str, str], str, int], None]) -> Callable[..., Program]:
    def edit(program: Program, a: int, b: int) -> Program:
        content = dict(program.files)
        name = list(content)[a % len(content)] if content else "f0"
        change(content, name, b)
        return replace(program, files=tuple(sorted(content.items())))

    return edit


def _of_stage(change: Callable[[Stage, int], Stage]) -> Callable[..., Program]:
    def edit(program: Program, a: int, b: int) -> Program:
        stages = list(program.stages)
        if stages:
            place = a % len(stages)
            stages[place] = change(stages[place], b)
        return replace(program, stages=tuple(stages))

    return edit


def _dropped(program: Program, a: int, b: int) -> Program:
    stages = list(program.stages)
    if len(stages) > 1:
        del stages[a % len(stages)]
    return replace(program, stages=tuple(stages))


def _mended(program: Program, a: int, b: int) -> Program:
    stages = [s._replace(n=2) if s.kind == "fails" else s for s in program.stages]
    return replace(program, stages=tuple(stages))


def _added(program: Program, a: int, b: int) -> Program:
    dice = random.Random(f"{a} {b}")
    stage = any_stage(dice, max((stage.id for stage in program.stages), default=0) + 1)
    return replace(program, stages=(*program.stages, stage))


ITEM_EDITS: dict[str, Callable[..., Program]] = {
    "delete an item": _items(lambda items, a, b: items.__delitem__(a)),
    "insert an item": _items(lambda items, a, b: items.insert(a, WORDS[b % len(WORDS)])),
    "append items": _items(lambda items, a, b: items.extend(WORDS[: 1 + b % 4])),
    "swap items": _items(_swapped),
    "reverse the items": _items(lambda items, a, b: items.reverse()),
    "duplicate an item": _items(lambda items, a, b: items.insert(b % len(items), items[a])),
    "change an item": _items(_changed),
    "cut the items": _items(lambda items, a, b: items.__delitem__(slice(a + 1, None))),
}
EDITS: dict[str, Callable[..., Program]] = {
    **ITEM_EDITS,
    "add a file": _files(lambda all, name, b: all.update({f"f{b}": WORDS[b % len(WORDS)]})),
    "change a file": _files(lambda all, name, b: all.update({name: WORDS[b % len(WORDS)] * 2})),
    "remove a file": _files(lambda all, name, b: all.pop(name, None)),
    "change a number": _of_stage(lambda stage, b: stage._replace(n=(stage.n + 1 + b % 2) % 3)),
    "write it otherwise": _of_stage(lambda s, b: s._replace(form=list(FORMS)[b % len(FORMS)])),
    "change options": _of_stage(lambda s, b: s._replace(options=OPTIONS[b % len(OPTIONS)])),
    "let failures go": _of_stage(
        lambda s, b: s._replace(options=(("on_error", "skip"), ("max_errors", 1.0)))
    ),
    "read another": _of_stage(lambda stage, b: stage._replace(above=b % 8)),
    "bind another": _of_stage(lambda stage, b: stage._replace(other=b % 8)),
    "add a stage": _added,
    "drop a stage": _dropped,
    "mend": _mended,
    "other targets": lambda p, a, b: replace(p, targets=(a, b) if b % 3 else (a,)),
    "other chunks": lambda p, a, b: replace(p, options=(("source_chunk", 1 + b % 4),)),
    "other defaults": lambda p, a, b: replace(
        p, options=((), (("fuse", False),), (("chunk_size", 2),), (("cache", True),))[b % 4]
    ),
    "a remark": lambda p, a, b: replace(p, remarks=p.remarks + 1),
}


def any_stage(dice: random.Random, number: int) -> Stage:
    kinds = [kind for kind in ["map", "map", "fails", "flaky", *STAGES] if kind not in KNOWN]
    return Stage(
        number,
        dice.choice(kinds),
        dice.choice([form for form in FORMS if form not in KNOWN]),
        dice.randrange(3),
        dice.randrange(10),
        dice.randrange(10),
        dice.choice([(), (), *OPTIONS]),
    )


def any_program(seed: int) -> Program:
    """Return a program; the same for the same seed."""
    dice = random.Random(seed)
    texts = tuple(dice.choice(WORDS) for _ in range(dice.randrange(1, 10)))
    number = dice.choice([0, 0, 2, 3])
    content = tuple((f"f{n}", dice.choice(WORDS)) for n in range(number))
    stages = tuple(any_stage(dice, n + 1) for n in range(dice.randrange(1, 6)))
    options = dice.choice([(), (), (("source_chunk", 2),), (("fuse", False),), (("cache", True),)])
    return Program(texts, stages, content, (dice.randrange(9),), options)


# --- what it has to give ----------------------------------------------------------------------


class Failed(Exception):
    """What plain Python says: some item fails, and the run with it."""


def evaluate(graph: Any) -> dict[str, Any]:
    """Return the keys and values of the items of each stage, or the one value of it.

    Values come from `reference.evaluate`; items that fail are left out where they may be.
    """
    import reference

    made: dict[str, list[tuple[str | None, Any]]] = {}

    class Lenient(dict):
        """The stages so far: those whose items are let go give the others."""

    meaning = Meaning(reference)
    for name, stage in graph.nodes(data="stage"):
        made[name] = meaning.of(graph, name, stage, made)
    return made


class Meaning:
    """Keys, and what is left where items fail; the rest is `reference`."""

    def __init__(self, reference: Any) -> None:
        self.reference = reference

    def of(self, graph: Any, name: str, stage: Any, made: dict[str, Any]) -> list[Any]:
        from htdag.stages.graph import upstreams

        reference = self.reference
        if stage.source is not None:
            return [(str(n), item) for n, item in enumerate(reference.source_items(stage))]
        above = upstreams(graph, name)
        inputs = [made[other] for other in above]
        bound = {}
        for other, _, data in graph.in_edges(name, data=True):
            values = [value for _, value in made[other]]
            one = graph.nodes[other]["stage"].one
            bound.update(dict.fromkeys(data["keywords"], values[0] if one else values))
        if stage.kind in ("map", "starmap", "flat_map", "filter"):
            return list(self.per_item(stage, bound, inputs[0]))
        if stage.kind == "iterate":
            results = {n: self.values(graph, n, made) for n in above}
            state = reference.repeated(graph, name, results)
            return list(enumerate_keys(state)) if not stage.one else [(None, state)]
        call = lambda *values, **named: reference.call_on_copies(  # noqa: E731
            reference.function_of(stage), bound, *values, **named
        )
        values = reference.MEANINGS[stage.kind](
            stage.operation, call, *([value for _, value in items] for items in inputs)
        )
        if stage.one:
            return [(None, values)]
        return list(zip(self.keys(stage, inputs, values), values, strict=True))

    def values(self, graph: Any, name: str, made: dict[str, Any]) -> Any:
        found = [value for _, value in made[name]]
        return found[0] if graph.nodes[name]["stage"].one else found

    def per_item(self, stage: Any, bound: Any, items: Any) -> Iterator[tuple[str, Any]]:
        reference = self.reference
        for key, item in items:
            call = lambda *values, **named: reference.call_on_copies(  # noqa: E731
                reference.function_of(stage), bound, *values, **named
            )
            try:
                found = reference.MEANINGS[stage.kind](stage.operation, call, [item])
            except (ValueError, OSError, AttributeError, TypeError):
                if stage.options.on_error != "skip":
                    raise Failed(stage.name) from None
                continue
            if stage.kind == "flat_map":
                yield from ((key and f"{key}.{n}", value) for n, value in enumerate(found))
            else:
                yield from ((key, value) for value in found)

    def keys(self, stage: Any, inputs: Any, values: Any) -> list[Any]:
        operation = stage.operation
        keys = [[key for key, _ in items] for items in inputs]
        if stage.kind == "take":
            return keys[0][: operation.number]
        if stage.kind == "enumerate":
            return keys[0]
        if stage.kind == "batch":
            return keys[0][:: operation.number]
        if stage.kind == "zip":
            return [key for key, *_ in zip(*keys, strict=False)]
        if stage.kind == "product":
            return [joined_keys(chosen) for chosen in itertools.product(*keys)]
        if stage.kind == "combinations":
            return [joined_keys(c) for c in itertools.combinations(keys[0], operation.number)]
        if stage.kind == "sort_by":
            by_item = lambda pair: operation.key(copy.deepcopy(pair[1]))  # noqa: E731
            return [key for key, _ in sorted(inputs[0], key=by_item, reverse=operation.reverse)]
        if stage.kind == "distinct":
            by_item = lambda pair: operation.key(pair[1])  # noqa: E731
            return [pairs[0][0] for _, pairs in self.reference.keyed(operation, inputs[0], by_item)]
        if stage.kind == "concat":
            return [k and f"{n}:{k}" for n, own in enumerate(keys) for k in own]
        return [None] * len(values)  # of groups and the like the key is htdag's own


def joined_keys(keys: tuple[str | None, ...]) -> str | None:
    return None if None in keys else "+".join(map(str, keys))


def enumerate_keys(values: Any) -> Iterator[tuple[str, Any]]:
    return ((str(n), value) for n, value in enumerate(values))


# --- processes --------------------------------------------------------------------------------


class Server:
    """A process that forks one for each request, and answers with what that returned."""

    def __init__(self, what: str, folder: Path) -> None:
        self.address = str(folder / f"{what}.socket")
        code = "import lives, sys; lives.serve(*sys.argv[1:])"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, what, self.address, str(folder)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(HERE)},
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def ask(self, **request: Any) -> Any:
        return ask(self.address, request)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()  # type: ignore[union-attr]


def ask(address: str, request: dict[str, Any]) -> Any:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(120 if request.get("on") == "local" else 2 * POOL_SECONDS)
        connection.connect(address)
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile() as file:
            text = file.readline()
    return json.loads(text) if text else None


def serve(what: str, address: str, folder: str) -> None:
    """Be a server: of scripts (``shell``), or of the jobs of their runs (``jobs``)."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    answer = {"shell": serve_scripts, "jobs": serve_jobs}[what](folder)
    for name in ("sync", "fsync"):
        setattr(os, name, lambda *_: None)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(20)
    print("ready", flush=True)  # noqa: T201
    while True:
        connection, _ = listener.accept()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if os.fork():
            connection.close()
            continue
        listener.close()
        try:
            with connection.makefile() as file:
                request = json.loads(file.readline())
            found = answer(request, connection)
            if found is not NOTHING:
                connection.sendall(json.dumps(found).encode() + b"\n")
        except BaseException:
            text = traceback.format_exc()
            connection.sendall(json.dumps({"broke": text[-6000:]}).encode() + b"\n")
        finally:
            os._exit(0)


NOTHING = object()
POOL_SECONDS = 300  # for one run on a pool, which others use too


def serve_jobs(folder: str) -> Callable[..., Any]:
    """Start runs, as the local backend does, with the runtime that run directories bring."""
    from htdag.compile.runtime_archive import write_archive

    archive = os.path.join(folder, "runtime.pyz")
    write_archive(archive)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("htdag", "lives")]:
        del sys.modules[name]
    sys.path[:] = [archive, *(path for path in sys.path if path != str(HERE))]
    import ctypes  # noqa: F401

    import cloudpickle  # noqa: F401
    from htdag_runtime.dag import local  # type: ignore[import-not-found]

    def start(request: dict[str, Any], connection: Any) -> Any:
        log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for number in (1, 2):
            os.dup2(log, number)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.closerange(3, connection.fileno())
        os.closerange(connection.fileno() + 1, 50)
        pid = os.fork()
        if pid == 0:
            connection.close()
            os.environ.clear()
            os.environ.update(request["environ"])
            os._exit(local.run_directory(request["run"], 2))
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    return start


def serve_scripts(folder: str) -> Callable[..., Any]:
    import networkx  # noqa: F401
    import psutil  # noqa: F401
    import reference

    import htdag
    import htdag.backends.local
    import htdag.compile
    import htdag.plan

    reference.evaluate  # noqa: B018
    jobs = os.path.join(folder, "jobs.socket")

    class Answer(NamedTuple):
        returncode: int

    def start(command: list[str], **options: Any) -> Answer:
        """In place of `subprocess.run`, for the process of a local run."""
        run = command[4]
        log = os.path.join(run, "local.log")
        request = {"run": run, "log": log, "environ": options["env"]}
        return Answer(ask(jobs, request))

    replaced = types.SimpleNamespace(run=start, DEVNULL=subprocess.DEVNULL)
    htdag.backends.local.subprocess = replaced  # type: ignore[attr-defined]
    htdag.backends.local.LocalBackend.turn = 0.01
    return act


def act(request: dict[str, Any], connection: Any) -> Any:
    """Run a script and do something with its pipeline, in a process of its own."""
    os.chdir(request["folder"])
    log = os.open("shell.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for number in (1, 2):
        os.dup2(log, number)
    os.environ["HTDAG_HOME"] = os.path.join(request["folder"], "home")
    os.environ["HTDAG_HISTORY"] = "off"
    os.environ.update(request.get("environ", {}))
    sys.path.insert(0, request["folder"])
    sys.dont_write_bytecode = True
    names: dict[str, Any] = {}
    if request["do"] not in ("manage", "rest"):
        names = script(request["folder"])
    if request.get("kill"):
        kill_at(request["kill"])
    return ACTS[request["do"]](names, **request["arguments"])


def script(folder: str) -> dict[str, Any]:
    """Execute the script as ``__main__``."""
    path = os.path.join(folder, "script.py")
    main = types.ModuleType("__main__")
    main.__file__ = path
    sys.modules["__main__"] = main
    with open(path) as file:
        exec(compile(file.read(), path, "exec"), vars(main))
    return vars(main)


def kill_at(number: int) -> None:
    """Kill this process at the n-th time that it is about to change what a folder holds."""
    counted = itertools.count(1)

    def guarded(function: Any) -> Any:
        def call(*values: Any, **named: Any) -> Any:
            if next(counted) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*values, **named)

        return call

    for name in ("rename", "replace", "mkdir", "link", "unlink", "rmdir", "symlink", "truncate"):
        setattr(os, name, guarded(getattr(os, name)))


def act_plain(names: dict[str, Any], folder: str) -> Any:
    import own.noting  # type: ignore[import-not-found]

    own.noting.FOLDER = folder
    flow = names["flow"]
    try:
        made = evaluate(flow.graph)
    except Failed as error:
        return {"failed": str(error)}
    return {
        "results": {
            target: [[key, repr(value)] for key, value in made[target]] for target in flow.targets
        }
    }


def act_submit(
    names: dict[str, Any], tag: str | None, on: str, strike: Any = None, **options: Any
) -> Any:
    run = names["flow"].submit(tag, on, **options)
    struck = strike is not None and strikes(run, *strike)
    return {**told(run), "struck": struck}


def strikes(run: Any, notes: str, when: int, what: str) -> bool:
    """Do something to a run on a pool at a call of its functions; tell whether it came to that."""
    from htdag.errors import RunEnded

    while True:
        if run.state.ended:
            return False
        with contextlib.suppress(FileNotFoundError), open(os.path.join(notes, "calls")) as file:
            if sum(1 for _ in file) >= when:
                break
        time.sleep(0.05)
    with contextlib.suppress(RunEnded):
        do_to(run, what)
    return True


def do_to(run: Any, what: str) -> None:
    if what == "dagman":
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(entry / "cwd") == str(run.path):
                    os.kill(int(entry.name), signal.SIGKILL)
    elif what == "hold":
        run.hold()
        time.sleep(1)
        run.release()
    else:
        getattr(run, what)()


def act_go_on(names: dict[str, Any], tag: str, **options: Any) -> Any:
    import htdag

    return told(htdag.load(tag).resume(**options))


def act_rerun(names: dict[str, Any], tag: str, **options: Any) -> Any:
    import htdag

    return told(htdag.load(tag).rerun(**options))


def act_look(names: dict[str, Any], tag: str) -> Any:
    import htdag

    return told(htdag.load(tag))


def act_rest(names: dict[str, Any]) -> Any:
    """Wait until nothing of this life is in a pool's queue: its submitter was killed."""
    import htcondor2  # type: ignore[import-not-found]

    mine = f"substr(Iwd, 0, {len(os.getcwd())}) == {json.dumps(os.getcwd())}"
    end = time.monotonic() + POOL_SECONDS
    while htcondor2.Schedd().query(mine, ["ClusterId"]):
        assert time.monotonic() < end, "jobs of a submitter that was killed do not end"
        time.sleep(0.3)
    return {}


def told(run: Any) -> dict[str, Any]:
    """Return all that a user can see of a run that has ended."""
    import warnings

    import htdag

    problem = ""
    try:
        run.wait(timeout=60 if run.backend_name == "local" else POOL_SECONDS, progress=False)
    except (htdag.RunFailed, htdag.RunHeld) as error:
        problem = str(error)
    results = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for target in run.targets:
            items = run.items(target, errors="skip")
            results[target] = [[item.key, repr(item.value)] for item in items]
    whole = {}
    if run.state is htdag.RunState.DONE:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = {target: repr(run.result(target)) for target in run.targets}
    return {
        "state": run.state.value,
        "path": str(run.path),
        "problem": problem,
        "results": results,
        "whole": whole,
        "errors": [[error.stage, error.key, error.type] for error in run.errors()],
    }


def act_manage(names: dict[str, Any], tag: str, what: str) -> Any:
    import htdag

    run = htdag.load(tag)
    if what == "retag":
        run.retag("other")
        htdag.load("other").retag(tag)
    elif what == "export":
        path = run.export("exported.tar")
        run.delete()
        htdag.import_run(path)
        os.unlink(path)
    elif what == "upgrade":
        path = run.path / "identity.json"
        content = json.loads(path.read_text())
        content["format"] -= 1
        path.write_text(json.dumps(content))
    elif what == "damage":
        (run.path / "identity.json").unlink()
    return {}


ACTS = {
    "plain": act_plain,
    "submit": act_submit,
    "go on": act_go_on,
    "rerun": act_rerun,
    "look": act_look,
    "manage": act_manage,
    "rest": act_rest,
}


# --- lives ------------------------------------------------------------------------------------


@dataclass
class Life:
    """A program in a folder, and what has become of its run.

    Each step checks what it gives. `log` is the script of the life so far. Functions tell of their
    calls in the folder `notes`.
    """

    folder: Path
    shell: Server
    notes: Path
    program: Program = field(default_factory=lambda: Program(("a",)))
    log: list[str] = field(default_factory=list)
    steps: int = 0
    on: str = "local"
    environ: dict[str, str] = field(default_factory=dict)
    last: dict[str, Any] | None = None
    done: Program | None = None
    kills: int = 0

    def note(self, line: str) -> None:
        self.log.append(line)
        self.steps += 1

    def begin(self, seed: int) -> None:
        self.note(f"life.begin({seed})")
        self.program = any_program(seed)
        self.write()

    def write(self) -> None:
        """Write the script and its modules anew, as an editor does."""
        for name in ("own", "data"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name, text in files(self.program, str(self.notes)).items():
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    def edit(self, what: str, a: int, b: int) -> None:
        self.note(f"life.edit({what!r}, {a}, {b})")
        self.program = EDITS[what](self.program, a, b)
        self.write()

    def weather(self, bad: bool) -> None:
        """Let stages that depend on it fail, or not any more."""
        self.note(f"life.weather({bad})")
        if bad:
            (self.notes / "weather").touch()
        else:
            (self.notes / "weather").unlink(missing_ok=True)

    @property
    def is_bad(self) -> bool:
        return (self.notes / "weather").exists()

    def calls(self) -> Counter[str]:
        try:
            found = Counter((self.notes / "calls").read_text().splitlines())
            (self.notes / "calls").unlink()
        except FileNotFoundError:
            return Counter()
        return found

    def ask(self, do: str, **request: Any) -> Any:
        environ = {**self.environ, **request.pop("environ", {})}
        kill = request.pop("kill", 0)
        answer = self.shell.ask(
            folder=str(self.folder),
            do=do,
            arguments=request,
            environ=environ,
            kill=kill,
            on=self.on,
        )
        assert answer is not None or kill, f"the process that did {do!r} died"
        if answer is not None:
            assert "broke" not in answer, answer["broke"]
        return answer

    def plain(self) -> tuple[dict[str, Any], Counter[str]]:
        """What plain Python gives today, and what it calls."""
        aside = self.folder / "plain"
        aside.mkdir(exist_ok=True)
        (aside / "calls").unlink(missing_ok=True)
        answer = self.ask("plain", folder=str(aside))
        try:
            found = Counter((aside / "calls").read_text().splitlines())
        except FileNotFoundError:
            found = Counter()
        return answer, found

    # Steps.

    def run(
        self,
        how: str = "resume",
        bomb: tuple[int, str] | None = None,
        strike: tuple[int, str] | None = None,
    ) -> None:
        """Submit, in one of the ways to go on with an earlier run.

        At a call, by its number, a bomb kills something where that is computed, and a strike does
        something to a run on a pool.
        """
        self.note(f"life.run({how!r}, {bomb}, {strike})")
        self.calls()
        if bomb is not None:
            state = str(self.folder / "home" / "runs" / TAG / "local.state.json")
            (self.notes / "bomb").write_text(json.dumps([*bomb, state]))
        at = None if strike is None else [str(self.notes), *strike]
        if how == "fresh" and self.last is not None:
            shutil.rmtree(self.folder / "home" / "runs" / TAG)
            self.last = self.done = None
        if how == "script" and self.last is not None:
            wanted = json.dumps([TAG, "life", ""])
            answer = self.submit(tag=None, environ={"HTDAG_RESUME": wanted}, strike=at)
        elif how == "keep" and self.last is not None and self.same_code():
            answer = self.submit(tag=TAG, resume=True, keep_finished=True, strike=at)
        else:
            answer = self.submit(tag=TAG, resume=self.last is not None, strike=at)
        exploded = (self.notes / "bomb.gone").exists()
        for name in ("bomb", "bomb.gone"):
            (self.notes / name).unlink(missing_ok=True)
        self.settle(answer, exploded or answer["struck"])

    def submit(self, **request: Any) -> Any:
        return self.ask("submit", on=self.on, **request)

    def same_code(self) -> bool:
        return self.done is not None and self.done.stages == self.program.stages

    def go_on(self) -> None:
        """`run.resume`: with the functions and items that the run has."""
        if self.last is None or self.program_of_run != self.program:
            return
        self.note("life.go_on()")
        self.calls()
        self.settle(self.ask("go on", tag=TAG), exploded=False)

    def rerun(self, what: str, a: int) -> None:
        """`run.rerun`, of a stage, of a key, of errors or of all."""
        if self.last is None or self.program_of_run != self.program:
            return
        if self.last["state"] != "done" and what != "errors":
            return
        self.note(f"life.rerun({what!r}, {a})")
        self.calls()
        arguments: dict[str, Any] = {}
        if what == "errors":
            arguments = {"errors": True}
        elif what == "stage":
            arguments = {"stage": f"m{self.program.stages[a % len(self.program.stages)].id}"}
            if arguments["stage"] not in self.last["results"]:
                arguments = {}
        elif what == "key":
            target = sorted(self.last["results"])[a % len(self.last["results"])]
            keys = [key for key, _ in self.last["results"][target] if key]
            if not keys:
                return
            arguments = {"stage": target, "keys": [keys[a % len(keys)]]}
        self.settle(self.ask("rerun", tag=TAG, **arguments), exploded=False, again=True)

    def manage(self, what: str) -> None:
        """Things that are done to a run that has ended, and change nothing of it."""
        if self.last is None:
            return
        self.note(f"life.manage({what!r})")
        self.ask("manage", tag=TAG, what=what)
        if what in ("retag", "export"):
            after = self.ask("look", tag=TAG)
            assert after["results"] == self.last["results"]
            assert after["state"] == self.last["state"]
        else:
            self.done = None

    def kill_submit(self, number: int) -> None:
        """Kill the process that submits, at any of its changes to the disk, and submit again."""
        self.note(f"life.kill_submit({number})")
        self.calls()
        answer = self.submit(tag=TAG, resume=True, kill=number)
        if answer is None:
            if self.on == "local":
                wait_for_rest(self.folder)
            else:
                self.ask("rest")
            self.done = None  # what it calls now is as it may be
            answer = self.submit(tag=TAG, resume=True)
            self.settle(answer, exploded=True)
        else:
            self.settle(answer, exploded=False)

    # Checks.

    program_of_run: Program | None = None

    def settle(self, answer: dict[str, Any], exploded: bool, again: bool = False) -> None:
        called = self.calls()
        expected, plainly = self.plain()
        before = self.done
        self.last, self.program_of_run = answer, self.program
        self.done = None
        if "failed" in expected or self.is_bad or (exploded and answer["state"] != "done"):
            self.check_part(answer, expected)
        else:
            self.check_whole(answer, expected)
            self.done = self.program
        if not exploded and not self.is_bad and "failed" not in expected:
            self.check_calls(called, plainly, before, again)

    def check_whole(self, answer: dict[str, Any], expected: dict[str, Any]) -> None:
        assert answer["state"] == "done", answer["problem"]
        assert set(answer["results"]) == set(expected["results"])
        for target, rows in expected["results"].items():
            found = answer["results"][target]
            values = [value for _, value in rows]
            assert [value for _, value in found] == values, f"{target}: {found} for {rows}"
            keys = [
                key if wanted is not None else None
                for (key, _), (wanted, _) in zip(found, rows, strict=True)
            ]
            assert keys == [key for key, _ in rows], f"{target}: {found} for {rows}"

    def check_part(self, answer: dict[str, Any], expected: dict[str, Any]) -> None:
        """What there is of a run that failed is right."""
        if answer["state"] != "done" and "failed" in expected:
            assert answer["errors"], answer["problem"]
        if "failed" in expected:
            return
        for target, rows in expected["results"].items():
            wanted = {key: value for key, value in rows if key is not None}
            for key, value in answer["results"].get(target, []):
                if key in wanted and len(wanted) == len(rows):
                    assert wanted[key] == value, target

    def check_calls(
        self, called: Counter[str], plainly: Counter[str], before: Program | None, again: bool
    ) -> None:
        counted = {f"s{stage.id}" for stage in self.program.stages if self.is_counted(stage)}
        ours = Counter({line: n for line, n in called.items() if json.loads(line)[0] in counted})
        assert not ours - plainly, ("called more than once", ours - plainly)
        if before is None or again:
            return
        # What a loop makes is made anew, and what was let go is tried again.
        anew = "loop" in {stage.kind for stage in self.program.stages} or self.last["errors"]
        if before == self.program and not anew:
            assert not called, ("nothing has changed", called)
        if replace(before, items=(), remarks=0) == replace(self.program, items=(), remarks=0):
            self.check_new_items(called, before)

    def is_counted(self, stage: Stage) -> bool:
        return stage.kind not in (*COMBINING, *KEYED, "loop") and "skip" not in str(stage.options)

    def check_new_items(self, called: Counter[str], before: Program) -> None:
        """Only items that are new are computed, where each is computed by itself."""
        if any(stage.kind not in EXACT for stage in self.program.stages):
            return
        if any(stage.above <= 4 for stage in self.program.stages) or self.program.files:
            return
        new = Counter(self.program.items) - Counter(before.items)
        first = f"s{self.program.stages[0].id}"
        own = self.program.stages[0].kind == "own"
        fresh = [json.loads(line)[1] for line in called.elements()]
        if not new:
            assert not called, ("no item is new", called)
        if not own:
            firsts = [json.loads(line)[1] for line in called.elements() if f'"{first}"' in line]
            assert not Counter(firsts) - Counter({f"({k!r},)": n for k, n in new.items()}), fresh

    def text(self) -> str:
        """The life as a script."""
        steps = "\n    ".join(self.log)
        return (
            f"# cd tests/support; ../../.venv/bin/python THIS_FILE\nimport lives\n\n"
            f"with lives.new_life() as life:\n    {steps}\n"
        )


def wait_for_rest(folder: Path) -> None:
    """Wait until no run works there any more: its submitter was killed, it goes on."""
    import fcntl

    for lock in (folder / "home" / "runs").glob("*/local.lock"):
        for _ in range(600):
            with open(lock, "rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    pass
            time.sleep(0.05)


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[Server]:
    jobs = Server("jobs", folder)
    shell = Server("shell", folder)
    try:
        yield shell
    finally:
        shell.stop()
        jobs.stop()


@contextlib.contextmanager
def new_life() -> Iterator[Life]:
    """A life by itself, as scripts of lives use it."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="life-", dir="/var/tmp"))
    with servers(folder) as shell:
        print(folder)  # noqa: T201
        yield Life(folder, shell, folder)


# --- lives on a pool --------------------------------------------------------------------------


def step(life: Life, dice: random.Random) -> None:
    """Do one of the things that people do, and run."""
    what = dice.choice(list(TURNS))
    TURNS[what](life, dice)


def _edited(life: Life, dice: random.Random, edits: Any = tuple(EDITS)) -> None:
    life.edit(dice.choice(edits), dice.randrange(41), dice.randrange(41))


def _edit(life: Life, dice: random.Random) -> None:
    for _ in range(dice.choice([1, 1, 3])):
        _edited(life, dice)
    life.run(dice.choice(["resume", "script"]))


def _edit_items(life: Life, dice: random.Random) -> None:
    _edited(life, dice, tuple(ITEM_EDITS))
    life.run(dice.choice(["resume", "script"]))


def _bomb(life: Life, dice: random.Random) -> None:
    _edited(life, dice)
    life.run("resume", (dice.randrange(1, 12), dice.choice(["worker", "job"])))
    life.go_on()


def _strike(life: Life, dice: random.Random) -> None:
    _edited(life, dice)
    what = dice.choice(["dagman", "hold", "remove", "vacate"])
    life.run("resume", strike=(dice.randrange(1, 12), what))
    if what == "remove":
        life.go_on()


def _kill_submit(life: Life, dice: random.Random) -> None:
    _edited(life, dice)
    life.kill_submit(dice.randrange(1, 91))


def _again(life: Life, dice: random.Random) -> None:
    life.run(dice.choice(["resume", "script", "keep", "fresh"]))


def _rerun(life: Life, dice: random.Random) -> None:
    life.rerun(dice.choice(["errors", "stage", "key", "all"]), dice.randrange(41))


def _manage(life: Life, dice: random.Random) -> None:
    life.manage(dice.choice(["retag", "export", "upgrade", "damage"]))
    life.run()


def _weather(life: Life, dice: random.Random) -> None:
    life.weather(True)
    life.run()
    life.weather(False)
    life.go_on()


TURNS: dict[str, Callable[[Life, random.Random], None]] = {
    "edit": _edit,
    "edit items": _edit_items,
    "bomb": _bomb,
    "strike": _strike,
    "kill submit": _kill_submit,
    "run again": _again,
    "rerun": _rerun,
    "manage": _manage,
    "weather": _weather,
}
