"""Programs that do the same have the same fingerprint in every process, others another one.

A table of edits, tried on each Python that is on the machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from glob import glob
from pathlib import Path
from typing import Any

import cloudpickle
import filelock
import networkx
import packaging
import platformdirs
import pytest

import htdag

ROOT = Path(htdag.__file__).parents[1]
PYTHONS = [
    path
    for version in ("3.10", "3.11", "3.12", "3.13", "3.14")
    if version != ".".join(map(str, sys.version_info[:2]))
    for path in [
        shutil.which(f"python{version}"),
        *glob(f"/root/.pyenv/versions/{version}.*/bin/python"),
    ][-1:]
    if path is not None
]
"""Those of other minor versions that are on the machine."""

# Text, what stands for %% before, and after. `other.py` begins at the line that says so.
DIFFERENT = {
    "name of an argument": ("def g(a=0, b=1): return a, b\ndef f(x): return g(%%=x)", "a", "b"),
    "names of arguments": (
        "def g(*a, **k): return a, k\ndef f(x): return g(x, p=1, %%=2)",
        *("q", "r"),
    ),
    "method with names": ("def f(x): return x.g(%%=1)", "a", "b"),
    "constant": ("def f(x): return x + %%", "1", "1.0"),
    "bool": ("def f(x): return x, %%", "1", "True"),
    "sign of zero": ("def f(x): return x, %%", "0.0", "-0.0"),
    "text or bytes": ("def f(x): return x, %%'a'", "", "b"),
    "operator": ("def f(x): return x %% 2", "+", "-"),
    "comparison": ("def f(x): return x %% 2", "<", "<="),
    "in place": ("def f(x):\n    x %% [1]\n    return x", "+=", "= x +"),
    "is": ("def f(x): return x %% None", "is", "is not"),
    "branches": ("def f(x):\n    return 1 if %% else 2", "x", "not x"),
    "and": ("def f(x): return x.a %% x.b", "and", "or"),
    "break": ("def f(x):\n    for y in x:\n        if y: %%\n        y.g()", "break", "continue"),
    "else of a loop": (
        "def f(x):\n    for y in x:\n        if y: break\n    %%\n        x.g()\n    return x",
        *("else:", "if x:"),
    ),
    "exception": (
        "def f(x):\n    try: return 1 / x\n    except %%: return 0",
        *("ZeroDivisionError", "ArithmeticError"),
    ),
    "what is tried": (
        "def f(x):\n    try:\n        x.g()\n        %%\n    except E: pass\n    %%",
        "x.h()",
        "x.i()",
    ),
    "end of a try": (
        "def f(x):\n    try:\n        x.g()\n%%x.h()\n    except ValueError:\n        pass",
        *("        ", "    finally:\n        pass\n    try:\n        "),
    ),
    "with": ("def f(x):\n    with x.%%() as y: return y", "g", "h"),
    "starred": ("def f(x): return g(%%x)", "*", "**"),
    "order of locals": ("def f(a, b):\n    c, d = a, b\n    return %%", "c, d", "d, c"),
    "names of parameters": ("def f(%%): return 1", "a", "b"),
    "positional only": ("def f(a%%): return 1", "", ", /"),
    "default": ("def f(a=%%): return a", "1", "2"),
    "default of a keyword": ("def f(*, a=%%): return a", "1", "2"),
    "generator": ("def f(x):\n    %% x", "yield", "return"),
    "await": ("async def f(x):\n    return %%x", "", "await "),
    "yield from": ("def f(x):\n    %% x", "yield", "yield from"),
    "global": ("def f(x):\n    %%\n    y = x\n    return y", "global y", "pass"),
    "nonlocal": (
        "def f(x):\n    y = 0\n    def g():\n        %% y\n        y = 1\n    g()\n    return y",
        *("nonlocal", "global"),
    ),
    "lambda": ("f = lambda x: x + %%", "1", "2"),
    "inner function": ("def f(x):\n    def g(y): return y + %%\n    return g(x)", "1", "2"),
    "comprehension": ("def f(x): return [y for y in x if y > %%]", "1", "2"),
    "f-string": ("def f(x): return f'{x:%%}'", ".1f", ".2f"),
    "match": (
        "def f(x):\n    match x:\n        case %%: return y\n    return 0",
        *("[y, *_]", "(_, y)"),
    ),
    "type of an exception": ("class E(%%): pass\ndef f(x): raise E(x)", "ValueError", "TypeError"),
    "global variable": ("K = %%\ndef f(x): return x * K", "1", "2"),
    "global with two underscores": ("__k = %%\ndef f(x): return x * __k", "1", "2"),
    "dunder": ("__version__ = %%\ndef f(x): return x, __version__", "1", "2"),
    "list": ("K = [1, %%]\ndef f(x): return x in K", "1", "2"),
    "order of a list": ("K = %%\ndef f(x): return K", "[1, 2]", "[2, 1]"),
    "list or tuple": ("K = %%\ndef f(x): return K", "[1, 2]", "(1, 2)"),
    "order of a dict": ("K = %%\ndef f(x): return K", "{1: 1, 2: 2}", "{2: 2, 1: 1}"),
    "set": ("K = {'a', %%}\ndef f(x): return x in K", "'b'", "'c'"),
    "set of sets": ("K = {frozenset('ab'), frozenset(%%)}\ndef f(x): return K", "'c'", "'d'"),
    "one list twice": (
        "a = [1]\nK = [a, %%]\ndef f(x):\n    K[0].append(x)\n    return K",
        *("a", "[1]"),
    ),
    "helper": ("def g(x): return x + %%\ndef f(x): return g(x)", "1", "2"),
    "helper of a helper": (
        "def h(x): return x + %%\ndef g(x): return h(x)\ndef f(x): return g(x)",
        *("1", "2"),
    ),
    "named like a builtin": ("def round(x): return x + %%\ndef f(x): return round(x)", "1", "2"),
    "variable named like a builtin": ("max = %%\ndef f(x): return max", "1", "2"),
    "two of one name": (
        (
            "def g(k):\n    def h(x): return x + k\n    return h\na, b = g(1), g(2)\n"
            "def f(x): return %%(x)"
        ),
        *("a", "b"),
    ),
    "two modules with one name": (
        (
            "from other import g\nK = %%\ndef f(x): return g() + K\n# other.py\n"
            "K = 3 - %%\ndef g(): return K * 10"
        ),
        *("1", "2"),
    ),
    "closure": ("def m(k):\n    return lambda x: x * k\nf = m(%%)", "2", "3"),
    "contextmanager": (
        (
            "import contextlib\n@contextlib.contextmanager\ndef g():\n    yield %%\n"
            "def f(x):\n    with g() as k: return k"
        ),
        *("1", "2"),
    ),
    "decorator of contextlib": (
        (
            "import contextlib\nclass C(contextlib.ContextDecorator):\n    k = %%\n"
            "    def __enter__(self): return self\n    def __exit__(self, *a): pass\n"
            "@C()\ndef f(x): return x"
        ),
        *("1", "2"),
    ),
    "lru_cache": (
        "import functools\n@functools.lru_cache\ndef g(x): return x + %%\ndef f(x): return g(x)",
        *("1", "2"),
    ),
    "cached_property": (
        (
            "from functools import cached_property\nclass A:\n    @cached_property\n"
            "    def k(s): return %%\n"
            "def f(x): return A().k"
        ),
        *("1", "2"),
    ),
    "singledispatch": (
        (
            "import functools\n@functools.singledispatch\ndef g(x): return 0\n"
            "@g.register(int)\ndef _(x): return %%\ndef f(x): return g(x)"
        ),
        *("1", "2"),
    ),
    "singledispatch on another type": (
        (
            "import functools\n@functools.singledispatch\ndef g(x): return 0\n"
            "@g.register\ndef _(x: %%): return 1\ndef f(x): return g(x)"
        ),
        *("int", "float"),
    ),
    "singledispatch later": (
        (
            "import functools\n@functools.singledispatch\ndef g(x): return 0\n"
            "def h(x): return 1\nif %%: g.register(int, h)\ndef f(x): return g(x)"
        ),
        *("0", "1"),
    ),
    "singledispatchmethod": (
        (
            "import functools\nclass A:\n    @functools.singledispatchmethod\n"
            "    def g(self, x): return 0\n    @g.register(%%)\n    def _(self, x): return 1\n"
            "def f(x): return A().g(x)"
        ),
        *("int", "str"),
    ),
    "total_ordering": (
        (
            "import functools\n@functools.total_ordering\nclass A:\n"
            "    def __eq__(self, o): return True\n    def __lt__(self, o): return %%\n"
            "def f(x): return A() > A()"
        ),
        *("True", "False"),
    ),
    "wraps": (
        (
            "import functools\ndef d(g):\n    @functools.wraps(g)\n    def h(x): return g(x) + %%\n"
            "    return h\n@d\ndef f(x): return x"
        ),
        *("1", "2"),
    ),
    "partial": (
        "import functools\ndef g(a, b): return a + b\nf = functools.partial(g, b=%%)",
        *("1", "2"),
    ),
    "partialmethod": (
        (
            "import functools\nclass A:\n    def g(self, x): return x\n"
            "    h = functools.partialmethod(g, %%)\ndef f(x): return A().h()"
        ),
        *("1", "2"),
    ),
    "attrgetter": ("import operator\nf = operator.attrgetter('%%')", "real", "imag"),
    "bound method": (
        (
            "class A:\n    def __init__(me, k): me.k = k\n    def g(me, x): return x + me.k\n"
            "f = A(%%).g"
        ),
        *("1", "2"),
    ),
    "method that was put in place": (
        (
            "import types\nclass A:\n    def g(self, x): return 1\ndef h(self, x): return 2\n"
            "a = A()\na.g = types.MethodType(%%, a)\ndef f(x): return a.g(x)"
        ),
        *("h", "A.g"),
    ),
    "callable object": (
        "class A:\n    k = 0\n    def __call__(self, x): return x + self.k\nf = A()\nf.k = %%",
        *("1", "2"),
    ),
    "object with slots": (
        "class A:\n    __slots__ = ('k',)\na = A()\na.k = %%\ndef f(x): return a.k",
        *("1", "2"),
    ),
    "names of slots": ("class A:\n    __slots__ = ('%%',)\ndef f(x): return A()", "a", "b"),
    "object with a lock": (
        (
            "import threading\nclass A:\n    def __init__(me):\n        me.l = threading.Lock()\n"
            "        me.k = %%\na = A()\ndef f(x): return a.k"
        ),
        *("1", "2"),
    ),
    "class attribute": ("class A:\n    k = %%\ndef f(x): return A.k", "1", "2"),
    "class attribute from outside": ("class A: pass\nA.k = %%\ndef f(x): return A.k", "1", "2"),
    "method from outside": (
        "class A:\n    def g(self): return 1\nA.g = lambda self: %%\ndef f(x): return A().g()",
        *("2", "3"),
    ),
    "base class": (
        "class A: k = 1\nclass B: k = 2\nclass C(%%): pass\ndef f(x): return C.k",
        *("A", "B"),
    ),
    "order of base classes": (
        "class A: k = 1\nclass B: k = 2\nclass C(%%): pass\ndef f(x): return C.k",
        *("A, B", "B, A"),
    ),
    "metaclass": (
        (
            "class M(type):\n    def __call__(self): return %%\nclass A(metaclass=M): pass\n"
            "def f(x): return A()"
        ),
        *("1", "2"),
    ),
    "__init_subclass__": (
        (
            "class A:\n    def __init_subclass__(cls, k): cls.k = k\nclass B(A, k=%%): pass\n"
            "def f(x): return B.k"
        ),
        *("1", "2"),
    ),
    "property": (
        "class A:\n    @property\n    def k(self): return %%\ndef f(x): return A().k",
        *("1", "2"),
    ),
    "staticmethod": (
        "class A:\n    @%%\n    def k(*a): return a\ndef f(x): return A().k()",
        *("staticmethod", "classmethod"),
    ),
    "descriptor": (
        (
            "class D:\n    def __init__(me, k): me.k = k\n    def __get__(me, *a): return me.k\n"
            "class A:\n    k = D(%%)\ndef f(x): return A().k"
        ),
        *("1", "2"),
    ),
    "__match_args__": (
        (
            "class A:\n    a, b = 1, 2\n    __match_args__ = ('%%',)\n"
            "def f(x):\n    match A():\n        case A(y): return y"
        ),
        *("a", "b"),
    ),
    "order of fields": (
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    %%\ndef f(x): return A(x, 1)",
        *("a: int\n    b: int", "b: int\n    a: int"),
    ),
    "default of a field": (
        (
            "from dataclasses import dataclass\n@dataclass\nclass A:\n    a: int = %%\n"
            "def f(x): return A()"
        ),
        *("1", "2"),
    ),
    "factory of a field": (
        (
            "from dataclasses import dataclass, field\n@dataclass\nclass A:\n"
            "    a: list = field(default_factory=lambda: [%%])\ndef f(x): return A()"
        ),
        *("1", "2"),
    ),
    "metadata of a field": (
        (
            "from dataclasses import dataclass, field, fields\n@dataclass\nclass A:\n"
            "    a: int = field(metadata={'k': %%})\ndef f(x): return fields(A)[0].metadata"
        ),
        *("1", "2"),
    ),
    "options of a dataclass": (
        (
            "from dataclasses import dataclass\n@dataclass(%%)\nclass A:\n    a: int\n"
            "def f(x): return A(x) == A(x)"
        ),
        *("eq=True", "eq=False"),
    ),
    "type of a field": (
        (
            "from dataclasses import dataclass, fields\n@dataclass\nclass A:\n    a: %%\n"
            "def f(x): return fields(A)[0].type"
        ),
        *("int", "float"),
    ),
    "namedtuple": (
        "from collections import namedtuple\nA = namedtuple('A', '%%')\ndef f(x): return A(1, 2)",
        *("a b", "b a"),
    ),
    "typing.NamedTuple": (
        (
            "from typing import NamedTuple\nclass A(NamedTuple):\n    a: int = %%\n"
            "def f(x): return A()"
        ),
        *("1", "2"),
    ),
    "value of an enum": (
        "from enum import Enum\nclass E(Enum):\n    A = %%\ndef f(x): return E.A.value",
        *("1", "2"),
    ),
    "order of an enum": (
        "from enum import Enum\nclass E(Enum):\n    %%\ndef f(x): return list(E)",
        *("A = 1\n    B = 2", "B = 2\n    A = 1"),
    ),
    "alias of an enum": (
        "from enum import Enum\nclass E(Enum):\n    A = 1\n    %%\ndef f(x): return E['B']",
        *("B = 1", "B = 2"),
    ),
    "flag": (
        (
            "from enum import IntFlag\nclass E(IntFlag):\n    A = %%\n    B = 4\nK = E.A | E.B\n"
            "def f(x): return K.value"
        ),
        *("1", "2"),
    ),
    "method of an enum": (
        (
            "from enum import Enum\nclass E(Enum):\n    A = 1\n    def g(e): return %%\n"
            "def f(x): return E.A.g()"
        ),
        *("1", "2"),
    ),
    "abstract class with another registered": (
        (
            "import abc\nclass A(abc.ABC): pass\nclass B: pass\nclass C: pass\nA.register(%%)\n"
            "def f(x): return isinstance(x, A)"
        ),
        *("B", "C"),
    ),
    "registered with a class of Python's": (
        (
            "import collections.abc\nclass A: pass\nif %%: collections.abc.Sequence.register(A)\n"
            "def f(x): return isinstance(A(), collections.abc.Sequence)"
        ),
        *("0", "1"),
    ),
    "subclasses": (
        (
            "class A: pass\nclass B(A):\n    def g(self): return %%\n"
            "def f(x): return [k().g() for k in A.__subclasses__()]"
        ),
        *("1", "2"),
    ),
    "plugins": (
        (
            "P = {}\ndef p(g):\n    P[len(P)] = g\n    return g\n@p\ndef g(x): return x + %%\n"
            "def f(x): return [h(x) for h in P.values()]"
        ),
        *("1", "2"),
    ),
    "docstring that is read": (
        "def g():\n    'usage %%'\ndef f(x): return g.__doc__",
        *("1", "2"),
    ),
    "docstring of a module that is read": ("'usage %%'\ndef f(x): return __doc__", "1", "2"),
    "annotations that are read": (
        "import typing\ndef g(a: %%): pass\ndef f(x): return typing.get_type_hints(g)",
        *("int", "str"),
    ),
    "annotations of a class that are read": (
        "class A:\n    a: %%\ndef f(x): return A.__annotations__",
        *("int", "str"),
    ),
    "annotations of a class with a base of Python's": (
        "import typing\nclass A(typing.NamedTuple):\n    a: %%\ndef f(x): return A(x)",
        *("int", "str"),
    ),
    "name that is read": (
        "def g(): return g.__name__\ng.__name__ = '%%'\ndef f(x): return g()",
        "a",
        "b",
    ),
    "attribute of a function": ("def f(x): return f.k\nf.k = %%", "1", "2"),
    "module of the project": (
        "import other\ndef f(x): return other.g(x)\n# other.py\ndef g(x): return x + %%",
        *("1", "2"),
    ),
    "module that is asked by a helper": (
        (
            "import other\ndef g(m, x): return m.h(x)\ndef f(x): return g(other, x)\n"
            "# other.py\ndef h(x): return x + %%"
        ),
        *("1", "2"),
    ),
    "module in a list": (
        (
            "import other\nK = [other]\ndef f(x): return K[0].g(x)\n# other.py\n"
            "def g(x): return x + %%"
        ),
        *("1", "2"),
    ),
    "import inside": (
        "def f(x):\n    import other\n    return other.g(x)\n# other.py\ndef g(x): return x + %%",
        *("1", "2"),
    ),
    "import by a text": (
        (
            "import importlib, other\ndef f(x): return importlib.import_module('other').g(x)\n"
            "# other.py\ndef g(x): return x + %%"
        ),
        *("1", "2"),
    ),
    "__getattr__ of a module": (
        "import other\ndef f(x): return other.k\n# other.py\ndef __getattr__(name): return %%",
        *("1", "2"),
    ),
    "set from outside": (
        "import other\nother.k = %%\ndef f(x): return other.k\n# other.py\nk = 0",
        *("1", "2"),
    ),
    "getattr with a constant": (
        "import other\ndef f(x): return getattr(other, 'k')\n# other.py\nk = %%",
        *("1", "2"),
    ),
    "getattr with a variable": (
        "import other\ndef f(x): return getattr(other, x)\n# other.py\nk = %%",
        *("1", "2"),
    ),
    "getattr of what is anything": (
        (
            "import other\ndef g(m, x): return getattr(m, x)\ndef f(x): return g(other, x)\n"
            "# other.py\nk = %%"
        ),
        *("1", "2"),
    ),
    "attrgetter with a variable": (
        (
            "import operator, other\nK = 'k'\ndef f(x): return operator.attrgetter(K)(other)\n"
            "# other.py\nk = %%"
        ),
        *("1", "2"),
    ),
    "attrgetter with dots": (
        (
            "import operator, other\ndef f(x): return operator.attrgetter('A.k')(other)\n"
            "# other.py\nclass A: k = %%"
        ),
        *("1", "2"),
    ),
    "methodcaller with a variable": (
        (
            "import other\nfrom operator import methodcaller\n"
            "def f(x): return methodcaller(x)(other)\n# other.py\ndef k(): return %%"
        ),
        *("1", "2"),
    ),
    "getattr_static": (
        (
            "import inspect, other\ndef f(x): return inspect.getattr_static(other, x)\n"
            "# other.py\nk = %%"
        ),
        *("1", "2"),
    ),
    "resolve_name": (
        (
            "import other, pkgutil\ndef f(x): return pkgutil.resolve_name('other:k')\n"
            "# other.py\nk = %%"
        ),
        *("1", "2"),
    ),
    "globals of a frame": (
        "import sys\nk = %%\ndef f(x): return sys._getframe().f_globals[x]",
        *("1", "2"),
    ),
    "globals of a function": ("k = %%\ndef f(x): return f.__globals__[x]", "1", "2"),
    "vars of a module": (
        "import other\ndef f(x): return vars(other)[x]\n# other.py\nk = %%",
        *("1", "2"),
    ),
    "globals": ("k = %%\ndef f(x): return globals()[x]", "1", "2"),
    "eval of a constant": ("k = %%\ndef f(x): return eval('k + 1')", "1", "2"),
    "a name in a query": ("LIMIT = %%\ndef f(x): return x.query('a > @LIMIT')", "1", "2"),
    "name in a text of a variable": (
        (
            "import other, pydoc\nK = 'other.g'\ndef f(x): return pydoc.locate(K)(x)\n"
            "# other.py\ndef h(x): return x + %%\ndef g(x): return h(x)"
        ),
        *("1", "2"),
    ),
    "name in a text of code": (
        (
            "import other, pydoc\ndef f(x): return pydoc.locate('other.g')(x)\n"
            "# other.py\ndef g(x): return x + %%"
        ),
        *("1", "2"),
    ),
    "name in a text of the script": (
        (
            "import pydoc\ndef g(x): return x + %%\nK = __name__ + '.g'\n"
            "def f(x): return pydoc.locate(K)(x)"
        ),
        *("1", "2"),
    ),
    "name in a default": (
        (
            "import other, pydoc\ndef f(x, k='other.g'): return pydoc.locate(k)(x)\n"
            "# other.py\ndef g(x): return x + %%"
        ),
        *("1", "2"),
    ),
    "name in a set of an attribute": (
        (
            "import other, pydoc\nclass A: k = {'other:g'}\n"
            "def f(x): return pydoc.locate(min(A.k).replace(':', '.'))(x)\n"
            "# other.py\ndef g(x): return x + %%"
        ),
        *("1", "2"),
    ),
    "module and name in two texts": (
        (
            "import other, pydoc\nK = {'m': 'other', 'n': 'g'}\n"
            "def f(x): return pydoc.locate('%(m)s.%(n)s' % K)(x)\n"
            "# other.py\ndef g(x): return x + %%"
        ),
        *("1", "2"),
    ),
    "module in a text, name in an item": (
        (
            "import other, pydoc\nK = 'other'\ndef f(x): return pydoc.locate(f'{K}.{x}')\n"
            "# other.py\nk = %%"
        ),
        *("1", "2"),
    ),
    "beginning of a name in a text": (
        (
            "import other, pydoc\nK = 'other.'\ndef f(x): return pydoc.locate(K + x)\n"
            "# other.py\nk = %%"
        ),
        *("1", "2"),
    ),
    "name in a text of a notation": (
        (
            'import json, other, pydoc\nK = \'{"_target_": "other.g"}\'\n'
            "def f(x): return pydoc.locate(json.loads(K)['_target_'])(x)\n"
            "# other.py\ndef g(x): return x + %%"
        ),
        *("1", "2"),
    ),
    "module in a text": (
        (
            "import other, pydoc\nK = ['other']\ndef f(x): return pydoc.locate(K[0]).g(x)\n"
            "# other.py\ndef g(x): return x + %%"
        ),
        *("1", "2"),
    ),
    "module in a text that is not loaded": (
        (
            "import pydoc\nK = 'other'\ndef f(x): return pydoc.locate(K).g(x)\n"
            "# other.py\ndef g(x): return x + %%"
        ),
        *("1", "2"),
    ),
    "name in a text, of a module that is not loaded": (
        (
            "import pydoc\nK = 'other.g'\ndef f(x): return pydoc.locate(K)(x)\n"
            "# other.py\ndef g(x): return x + %%"
        ),
        *("1", "2"),
    ),
    "name in a pickle": (
        (
            "import other, pickle\nK = pickle.dumps(other.g)\n"
            "def f(x): return pickle.loads(K)(x)\n# other.py\ndef g(x): return x + %%"
        ),
        *("1", "2"),
    ),
    "name in an old pickle": (
        (
            "import other, pickle\nK = [bytearray(pickle.dumps(other.g, 0))]\n"
            "def f(x): return pickle.loads(K[0])(x)\n# other.py\ndef g(x): return x + %%"
        ),
        *("1", "2"),
    ),
    "name in a large pickle": (
        (
            "import other, pickle\nK = pickle.dumps((other.g, bytes(2_000_000)))\n"
            "def f(x): return pickle.loads(K)[0](x)\n# other.py\ndef g(x): return x + %%"
        ),
        *("1", "2"),
    ),
    "module and name in a text of a notation": (
        (
            'import json, other, pydoc\nK = \'{"module": "other", "name": "g"}\'\n'
            "def f(x):\n    k = json.loads(K)\n"
            "    return pydoc.locate(k['module'] + chr(46) + k['name'])(x)\n"
            "# other.py\ndef g(x): return x + %%"
        ),
        *("1", "2"),
    ),
    "a name in an expression": (
        "LIMIT = %%\nK = {'a': 'm + LIMIT'}\ndef f(x): return x.eval(K['a'])",
        *("1", "2"),
    ),
    "reducer": (
        (
            "import copyreg\nclass A: pass\ndef made(a): return A()\n"
            "def reduced(a): return made, (%%,)\ncopyreg.pickle(A, reduced)\n"
            "def f(x): return x"
        ),
        *("1", "2"),
    ),
    "a name in a query of a variable": (
        "LIMIT = %%\nK = 'a > @LIMIT'\ndef f(x): return x.query(K)",
        *("1", "2"),
    ),
    "a name in a query of another module": (
        (
            "import other\nLIMIT = %%\ndef f(x): return x.query(other.A.k)\n# other.py\n"
            "class A: k = 'a > @LIMIT'"
        ),
        *("1", "2"),
    ),
    "a name in a query that is a default": (
        "LIMIT = %%\ndef f(x, k='a > @LIMIT'): return x.query(k)",
        *("1", "2"),
    ),
    "function of Python's that was exchanged": (
        "import json\ndef mine(x): return %%\njson.dumps = mine\ndef f(x): return json.dumps(x)",
        *("1", "2"),
    ),
    "builtin that was exchanged": (
        "import builtins\ndef mine(x): return %%\nbuiltins.ascii = mine\ndef f(x): return ascii(x)",
        *("1", "2"),
    ),
    "method of Python's that was exchanged": (
        (
            "import fractions\nfractions.Fraction.halved = lambda self: self / %%\n"
            "def f(x): return fractions.Fraction(x).halved()"
        ),
        *("2", "3"),
    ),
    "logger": (
        "import logging\nlog = logging.getLogger('%%')\ndef f(x): return log.name",
        *("a", "b"),
    ),
    "pattern": ("import re\nK = re.compile('a', %%)\ndef f(x): return K.match(x)", "0", "re.I"),
    "timezone": (
        "import datetime\nK = datetime.timezone(datetime.timedelta(hours=%%))\ndef f(x): return K",
        *("1", "2"),
    ),
    "empty cell": (
        "def m(k):\n    def g(x): return h\n    if k: h = 1\n    return g\nf = m(%%)",
        *("0", "1"),
    ),
    "new type": (
        "from typing import NewType\nK = NewType('%%', int)\ndef f(x): return K.__name__",
        *("A", "B"),
    ),
}
SAME = {
    "comment": ("def f(x):\n    # %%\n    return x", "one", "two"),
    "docstring": ("def f(x):\n    %%\n    return x, 1", "'a'", "'b'"),
    "docstring of a class": ("class A:\n    '''%%'''\n    k = 1\ndef f(x): return A.k", "a", "b"),
    "no docstring": ("def f(x):\n    %%\n    return x, 1", "'a'", "# a"),
    "docstring of a module": ("'''%%'''\ndef f(x): return x", "a", "b"),
    "line": ("%%\ndef f(x): return x", "", "\n\n\n\n"),
    "annotation": ("def f(x%%): return x", "", ": int"),
    "annotation of a variable": ("def f(x):\n    y%% = x\n    return y", "", ": int"),
    "name of a variable": ("def f(x):\n    %% = x + 1\n    return %% * %%", "y", "z"),
    "broken line": (
        "def f(x):\n    return [y for y in x%%if y%%and y > 1%%if y != 2]",
        *(" ", "\n        "),
    ),
    "broken conditions": (
        "def f(x):\n    if (x.a%%and x.b%%or not x.c):\n        return g(x.d,%%x.e)",
        *(" ", "\n        "),
    ),
    "broken call": ("def f(x):\n    for y in x:\n        z = y; w = g(z,%%y,%%x)", " ", "\n "),
    "semicolons": ("def f(x):\n    y = x%%z = y\n    return y, z", "; ", "\n    "),
    "quotes": ("def f(x): return %%", "'a'", '"a"'),
    "number": ("def f(x): return x + %%", "1000", "1_000"),
    "parentheses": ("def f(x): return %%", "x + 1", "(x + 1)"),
    "what is not used": ("k = %%\ndef f(x): return x", "1", "2"),
    "not used in a module": (
        "import other\ndef f(x): return other.a\n# other.py\na = 1\nb = %%",
        *("1", "2"),
    ),
    "another name of a module than the one in a text": (
        (
            "import other, pydoc\nK = 'other.a'\ndef f(x): return pydoc.locate(K)\n"
            "# other.py\na = 1\nb = %%"
        ),
        *("1", "2"),
    ),
    "files that are called like a module": (
        (
            "import other\nK = ['other.csv', 'data/other', 'no_other', 'other_one']\n"
            "def f(x): return K\n# other.py\na = %%"
        ),
        *("1", "2"),
    ),
    "a word that is a module which is not loaded": (
        "K = {'other': 1}\ndef f(x): return K\n# other.py\na = %%",
        *("1", "2"),
    ),
    "order of definitions": (
        "%%\ndef f(x): return g(x) + h(x)",
        "def g(x): return 1\ndef h(x): return 2",
        "def h(x): return 2\ndef g(x): return 1",
    ),
    "moved to another module": (
        (
            "%%\ndef f(x): return g(x) + K\n# other.py\nK = 1\ndef h(x): return x\n"
            "def g(x): return h(x)"
        ),
        "K = 1\ndef h(x): return x\ndef g(x): return h(x)",
        "from other import g, K",
    ),
    "order of a set": ("K = {%%}\ndef f(x): return x in K", "'a', 'b'", "'b', 'a'"),
    "set in code": ("def f(x): return x in {%%}", "'a', 'b', 'c'", "'c', 'a', 'b'"),
    "local class": ("%%def f(x):\n    class A:\n        def g(self): return self.a", "", "\n\n"),
    "import of what is not used": ("%%\ndef f(x): return x", "", "import json, decimal"),
    "order of methods": (
        "class A:\n%%\ndef f(x): return A()",
        "    def a(self): return 1\n    def b(self): return 2",
        "    def b(self): return 2\n    def a(self): return 1",
    ),
    "lock": ("import threading\nk = threading.Lock()\n%%def f(x):\n    with k: return x", "", "\n"),
    "cache": (
        "import functools\n@functools.lru_cache\ndef f(x): return x\nif %%: f(1)",
        *("0", "1"),
    ),
    "subclass of set": (
        "class S(set): pass\nK = S([%%])\ndef f(x): return K",
        *("'a', 'b', 'c', 'd'", "'d', 'c', 'b', 'a'"),
    ),
    "pipeline": (
        "import htdag\nflow = htdag.Pipeline(htdag.map(abs, [%%]))\ndef f(x): return globals()[x]",
        *("1", "2"),
    ),
}
UNSURE = {
    "exec": ("def f(x):\n    exec(x)", "exec"),
    "eval": ("def f(x): return eval(x + '1')", "eval"),
    "eval by map": ("def f(x): return list(map(eval, x))", "eval"),
    "import_module": ("import importlib\ndef f(x): return importlib.import_module(x)", "import_m"),
    "resolve_name": ("import pkgutil\ndef f(x): return pkgutil.resolve_name(x)", "resolve_name"),
    "generator": ("k = (y for y in [1])\ndef f(x): return next(k)", "a generator cannot be"),
}

PRINT = """
import copyreg, importlib, json, sys, warnings
warnings.simplefilter("ignore")
if sys.version_info < (3, 11):
    import pip._vendor.tomli as tomli
    sys.modules["tomli"] = tomli
from htdag.functions.fingerprint import of_function
found = {}
for name in json.load(open("names.json")):
    sys.path.insert(0, name)
    for module in ("script", "other"):
        sys.modules.pop(module, None)
    import json as again, builtins, fractions
    kept = again.dumps, builtins.ascii
    made = of_function(importlib.import_module("script").f)
    found[name] = [made.components, made.unsure]
    again.dumps, builtins.ascii = kept
    for kind in [kind for kind in copyreg.dispatch_table if kind.__module__ == "script"]:
        del copyreg.dispatch_table[kind]
    vars(fractions.Fraction).get("halved") and delattr(fractions.Fraction, "halved")
    del sys.path[0]
print(json.dumps(found))
"""


def write(folder: Path, text: str) -> None:
    folder.mkdir()
    script, _, other = text.partition("# other.py\n")
    (folder / "script.py").write_text(script + "\n")
    (folder / "other.py").write_text(other + "\n")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with each program, and the packages that htdag needs."""
    folder = tmp_path_factory.mktemp("programs")
    names = []
    for kind, table in (("different", DIFFERENT), ("same", SAME)):
        for number, (text, before, after) in enumerate(table.values()):
            for which, value in (("a", before), ("b", after)):
                names.append(f"{kind}{number}{which}")
                write(folder / names[-1], text.replace("%%", value))
    for number, (text, _) in enumerate(UNSURE.values()):
        names.append(f"unsure{number}")
        write(folder / names[-1], text)
    (folder / "names.json").write_text(json.dumps(names))
    packages = folder / "site-packages"
    packages.mkdir()
    (packages / "htdag").symlink_to(ROOT / "htdag")
    for package in (cloudpickle, filelock, networkx, packaging, platformdirs):
        source = Path(str(package.__file__)).parent
        (packages / source.name).symlink_to(source)
    return folder


def fingerprints(python: str, folder: Path, seed: str) -> dict[str, Any]:
    """Components, and what is unsure, of each program, by a process of its own."""
    variables = {
        "PYTHONPATH": str(folder / "site-packages"),
        "PYTHONHASHSEED": seed,
        "PYTHONPYCACHEPREFIX": str(folder / "pyc"),
    }
    command = [python, "-c", PRINT]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("python", [sys.executable, *PYTHONS])
def test_a_table_of_edits(written: Path, python: str):
    found = fingerprints(python, written, "1")
    again = fingerprints(python, written, "2")
    wrong = [
        f"not the same in each process: {name}" for name in found if found[name] != again[name]
    ]
    for number, name in enumerate(DIFFERENT):
        (before, unsure), (after, _) = found[f"different{number}a"], found[f"different{number}b"]
        if before == after or unsure:
            wrong.append(f"{name}: not seen, or unsure: {unsure}")
    for number, name in enumerate(SAME):
        (before, unsure), (after, _) = found[f"same{number}a"], found[f"same{number}b"]
        parts = [part for part in {**before, **after} if before.get(part) != after.get(part)]
        if parts or unsure:
            wrong.append(f"{name}: seen in vain: {parts}, or unsure: {unsure}")
    for number, (name, (_, told)) in enumerate(UNSURE.items()):
        _, unsure = found[f"unsure{number}"]
        if told not in str(unsure):
            wrong.append(f"{name}: not told: {unsure}")
    assert not wrong, "\n".join(wrong)
