"""Odd objects: those that are made again where they arrive, and those that are refused.

Each of them goes to a job as a global variable, comes back as a result, and has to look there and
here as it did before.
"""

from __future__ import annotations

import array
import asyncio
import bz2
import collections
import concurrent.futures
import contextlib
import contextvars
import csv
import ctypes
import datetime
import decimal
import functools
import gzip
import hashlib
import itertools
import logging
import lzma
import mmap
import multiprocessing
import os
import pathlib
import pickle
import queue
import random
import re
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import types
import typing
import unittest.mock
import weakref
import zipfile
import zlib
import zoneinfo

import numpy
import pytest

import htdag
from htdag.runtime.code import culprit
from htdag.runtime.job import program


class Thing:
    """Has no more than a name."""

    def __init__(self, name):
        self.name = name


class Cached:
    calls = 0

    @functools.cached_property
    def value(self):
        return 5

    @functools.singledispatchmethod
    def kind(self, x):
        return "object"

    @kind.register
    def _(self, x: int):
        return "int"


@functools.singledispatch
def kind(x):
    return "object"


@kind.register
def _(x: int):
    return "int"


class Catching:
    """Has whatever it is asked for."""

    def __init__(self):
        self.real = 3

    def __getattr__(self, name):
        return lambda *arguments: name


class Delegating:
    __slots__ = ("_inner",)

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)


class Two(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")
        self.first, self.second = first, second


class Keywords(Exception):
    def __init__(self, *, why):
        self.why = why


class Slots(Exception):
    __slots__ = ("why",)

    def __init__(self, why, more):
        super().__init__(more)
        self.why = why


class OfFile(OSError):
    def __init__(self, path, why):
        super().__init__(2, why, path)
        self.why = why


class Own(ValueError):
    def __init__(self, a, b):
        self.a = a

    def __reduce__(self):
        return Own, (self.a, 0)


def caught():
    try:
        try:
            raise KeyError("k")
        except KeyError as error:
            raise Two(1, 2) from error
    except Two as error:
        return error


def cause_that_stays():
    error = Two(1, 2)
    error.__cause__ = ValueError(threading.Thread())
    return error


FOLDER = os.path.join(tempfile.gettempdir(), f"htdag-odd-{os.getpid()}")  # also of jobs here
KEPT = []  # elsewhere than in what travels


@pytest.fixture(scope="module", autouse=True)
def all_is_closed():
    os.makedirs(FOLDER, exist_ok=True)
    yield
    for each in (*KEPT, *VALUES.values()):
        with contextlib.suppress(ValueError):  # what it reads from is closed
            close(each)
    KEPT.clear()
    VALUES.clear()
    shutil.rmtree(FOLDER)


def close(thing):
    if isinstance(thing, subprocess.Popen):
        thing.wait()
    for name in ("close", "cleanup", "shutdown"):
        if callable(getattr(type(thing), name, None)) and thing not in vars(sys).values():
            getattr(thing, name)()
            break


def file(name, content, opener=open):
    path = os.path.join(FOLDER, name)
    if not os.path.exists(path):
        with opener(path, "wb") as written:
            written.write(content)
    return path


def opened(opener, *arguments, skip=2, content=b"one\r\ntwo\nthree\r\n", **options):
    suffix = f".{opener.__module__}"
    file_ = opener(file(f"file{suffix}", content, opener), *arguments, **options)
    file_.read(skip)
    KEPT.append(file_)
    return file_


def closed():
    with open(file("closed", b"x")) as done:
        return done


def rest(file_):
    """What is left to read, which stays left."""
    position = file_.tell()
    try:
        return type(file_).__name__, position, file_.read()
    finally:
        file_.seek(position)


def local():
    made = threading.local()
    made.x = 3
    return made


def filled(made):
    made.put(1)
    return made


def with_level(name):
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    return logger


def variable(*values, **options):
    made = contextvars.ContextVar("v", **options)
    for value in values:
        made.set(value)
    return made


def library():
    made = ctypes.CDLL(None)
    made.strlen.restype, made.strlen.argtypes = ctypes.c_size_t, [ctypes.c_char_p]
    return made


def node():
    """A child that knows its parent weakly, and is all that travels."""
    parent = Thing("parent")
    child = Thing("child")
    child.parent = weakref.ref(parent)
    KEPT.append(parent)
    return child


def archive():
    path = os.path.join(FOLDER, "archive.zip")
    if not os.path.exists(path):
        with zipfile.ZipFile(path, "w") as made:
            made.writestr("inner", "text")
    return zipfile.ZipFile(path)


def registry():
    things = [Thing("a"), Thing("b")]
    return things, weakref.WeakValueDictionary({each.name: each for each in things})


def shared_lock():
    lock = threading.RLock()
    return lock, {"again": lock}


TEXT = "abcbd"
Name = typing.NewType("Name", str)


def looks_of_error(error):
    cause = error.__cause__
    return repr(error), error.args, {**vars(error)}, repr(cause), error.__suppress_context__


# How each is made, and what of it has to be as it was.
MADE = {
    "a lock": (threading.Lock, lambda v: (v.acquire(), v.release())),
    "a lock that is held": (
        lambda: (v := threading.Lock(), v.acquire())[0],
        lambda v: type(v).__name__,
    ),
    "a lock in two places": (shared_lock, lambda v: v[0] is v[1]["again"]),
    "a reentrant lock": (threading.RLock, lambda v: (v.acquire(), v.acquire(), v.release())),
    "a condition": (threading.Condition, lambda v: v.acquire()),
    "an event": (lambda: (v := threading.Event(), v.set())[0], lambda v: v.is_set()),
    "a semaphore": (lambda: threading.Semaphore(3), lambda v: v._value),
    "a barrier": (lambda: threading.Barrier(2), lambda v: v.parties),
    "values of a thread": (local, lambda v: v.x),
    "a queue": (lambda: filled(queue.Queue()), lambda v: list(v.queue)),
    "a queue with priorities": (lambda: filled(queue.PriorityQueue()), lambda v: list(v.queue)),
    "a simple queue": (queue.SimpleQueue, lambda v: v.qsize()),
    "a logger": (
        lambda: logging.getLogger("a.b"),
        lambda v: (v.name, v is logging.getLogger("a.b")),
    ),
    "a logger with a level": (lambda: with_level("leveled"), lambda v: (v.name, v.level)),
    "the root logger": (logging.getLogger, lambda v: v is logging.getLogger()),
    "a logger of its own": (lambda: logging.Logger("own", 10), lambda v: (v.name, v.level)),
    "an adapter": (lambda: logging.LoggerAdapter(logging.getLogger("c"), {}), lambda v: v.extra),
    "a handler": (lambda: logging.StreamHandler(sys.stderr), lambda v: v.stream is sys.stderr),
    "a text file": (lambda: opened(open), rest),
    "a text file as it is": (lambda: opened(open, newline=""), rest),
    "a latin text file": (lambda: opened(open, encoding="latin-1"), lambda v: v.encoding),
    "a binary file": (lambda: opened(open, "rb"), rest),
    "a raw file": (lambda: opened(open, "rb", 0), rest),
    "a gzip file": (lambda: opened(gzip.open), rest),
    "a gzip file of text": (lambda: opened(gzip.open, "rt"), rest),
    "a bzip2 file": (lambda: opened(bz2.open), rest),
    "an lzma file": (lambda: opened(lzma.open), rest),
    "a closed file": (closed, lambda v: v.closed),
    "an archive": (archive, lambda v: v.read("inner")),
    "standard output": (lambda: sys.stdout, lambda v: v is sys.stdout),
    "standard error": (lambda: sys.stderr, lambda v: v is sys.stderr),
    "standard input": (lambda: sys.stdin, lambda v: v is sys.stdin),
    "the environment": (lambda: os.environ, lambda v: v is os.environ),
    "a pattern": (lambda: re.compile("a", re.I), lambda v: v.flags),
    "a match": (lambda: re.search("b(.)", TEXT), lambda v: (v.groups(), v.span(1), v.string)),
    "a later match": (lambda: list(re.finditer("b(.)", TEXT))[1], lambda v: (v.groups(), v.span())),
    "a whole match": (lambda: re.fullmatch("a|ab|abcbd", TEXT), lambda v: v.group()),
    "a weak reference": (node, lambda v: v.parent().name),
    "a dead reference": (lambda: weakref.ref(Thing("gone")), lambda v: v()),
    "a weak dict": (registry, lambda v: {k: each.name for k, each in v[1].items()}),
    "a weak dict of keys": (weakref.WeakKeyDictionary, len),
    "a view of a dict": (lambda: {"a": 1}.items(), list),
    "a proxy of a dict": (lambda: types.MappingProxyType({"a": 1}), dict),
    "a view of bytes": (lambda: memoryview(b"abc"), lambda v: (v.tobytes(), v.readonly)),
    "a view of numbers": (lambda: memoryview(array.array("d", [1.5, 2])), lambda v: v.tolist()),
    "a context variable": (lambda: variable(default=3), lambda v: (v.name, v.get())),
    "a context variable with a value": (lambda: variable(7), lambda v: v.get()),
    "a context variable with none": (variable, lambda v: v.get("none")),
    "true random numbers": (random.SystemRandom, lambda v: 0 <= v.random() < 1),
    "random numbers": (lambda: random.Random(3), lambda v: v.getstate()),
    "a decimal context": (lambda: decimal.Context(prec=5), lambda v: v.prec),
    "a time in a zone": (
        lambda: datetime.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        lambda v: (v.isoformat(), v.tzinfo is zoneinfo.ZoneInfo("Europe/Berlin")),
    ),
    "an iterator": (lambda: iter([1, 2]), lambda v: v.__length_hint__()),
    "a new type": (lambda: Name, lambda v: (v.__name__, v.__supertype__)),
    "a new type of another": (
        lambda: typing.NewType("Inner", Name),
        lambda v: (v.__name__, v.__supertype__.__supertype__),
    ),
    "a parameter of types": (lambda: typing.ParamSpec("P"), lambda v: v.__name__),
    "an exception": (lambda: Two(1, 2), looks_of_error),
    "an exception with keywords": (lambda: Keywords(why=3), looks_of_error),
    "an exception with slots": (lambda: Slots(1, 2), lambda v: (v.args, v.why)),
    "an exception of a file": (lambda: OfFile("/p", "no"), lambda v: (v.errno, v.filename, v.why)),
    "an exception that knows itself": (lambda: Own(4, 5), lambda v: v.a),
    "an exception with a cause": (caught, looks_of_error),
    "a cause that stays": (cause_that_stays, lambda v: (v.first, v.args)),
    "an exception of Python's": (lambda: ImportError("x", name="n"), lambda v: (v.args, v.name)),
    "a mistake in text": (lambda: UnicodeDecodeError("utf8", b"x", 0, 1, "r"), lambda v: str(v)),
    "a single dispatch": (lambda: kind, lambda v: (v(1), v(""), len(v.registry))),
    "a cached property": (Cached, lambda v: (v.value, v.kind(1), v.kind(""))),
    "a universal function": (
        lambda: numpy.frompyfunc(lambda a, b: a + b, 2, 1),
        lambda v: (list(v([1, 2], [3, 4])), v.nin),
    ),
    "a vectorized function": (
        lambda: (v := numpy.vectorize(lambda a: a + 1, otypes=[int]), v([1]))[0],
        lambda v: list(v([1, 2])),
    ),
    "one of numpy's own": (lambda: numpy.add, lambda v: v is numpy.add),
    "a library": (library, lambda v: v.strlen(b"four")),
    "an array of C": (lambda: (ctypes.c_int * 3)(1, 2, 3), list),
    "a mock": (lambda: unittest.mock.MagicMock(return_value=3), lambda v: v.return_value),
    "an object with any attribute": (Catching, lambda v: (v.real, v.unreal())),
    "an object that delegates": (lambda: Delegating([1, 2]), lambda v: v.index(2)),
    "a chain of maps": (lambda: collections.ChainMap({1: 2}), dict),
    "a pure path": (lambda: pathlib.PurePosixPath("a/b"), str),
}
if sys.version_info < (3, 12):
    MADE["a count"] = (lambda: itertools.count(3), repr)
if sys.version_info >= (3, 11):

    class Group(ExceptionGroup):  # noqa: F821
        def __new__(cls, errors, why):
            made = super().__new__(cls, "group", errors)
            made.why = why
            return made

    MADE["a group"] = (lambda: Group([Two(1, 2)], 3), lambda v: (v.why, v.exceptions[0].first))

VALUES = {}


def in_a_job(name):
    look = MADE[name][1]
    return look(VALUES[name]), VALUES[name]


@pytest.fixture(scope="module")
def arrived(tmp_path_factory):
    """What a job saw of each object, and the object as it came back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTDAG_HOME", str(tmp_path_factory.mktemp("home")))
        VALUES.update({name: make() for name, (make, _) in MADE.items()})
        stage = htdag.source(list(MADE)).map(in_a_job)
        run = htdag.Pipeline(stage, name="odd", chunk_size=1000).submit(on="local")
        run.wait(progress=False)
        results = run.result()
        KEPT.extend(back for _, back in results)
        yield dict(zip(MADE, results, strict=True))


@pytest.mark.parametrize("name", MADE)
def test_it_is_there_in_jobs_and_comes_back(arrived, name):
    make, look = MADE[name]
    value = make()
    expected = look(value)
    KEPT.append(value)
    in_job, back = arrived[name]
    assert in_job == expected
    assert look(back) == expected


async def coroutine():
    pass


def half_read():
    file_ = opened(open)
    next(file_)
    return file_


def half_full():
    made = queue.SimpleQueue()
    made.put(1)
    return made


def pipe():
    reading, writing = os.pipe()
    os.close(writing)
    return os.fdopen(reading)


def entry():
    with os.scandir("/") as entries:
        return next(entries)


REFUSED = {
    "generator": (lambda: (each for each in ()), "list"),
    "coroutine": (coroutine, "call the function"),
    "frame": (sys._getframe, "values"),
    "weakref.CallableProxyType": (lambda: weakref.proxy(kind), "the object itself"),
    "threading.Thread": (threading.Thread, "start it inside"),
    "threading.Timer": (lambda: threading.Timer(1, print), "start it inside"),
    "subprocess.Popen": (lambda: subprocess.Popen(["true"]), "start it inside"),
    "ThreadPoolExecutor": (concurrent.futures.ThreadPoolExecutor, "make it inside"),
    "Future": (concurrent.futures.Future, "result()"),
    "multiprocessing.synchronize.Lock": (multiprocessing.Lock, "share nothing"),
    "multiprocessing.queues.Queue": (multiprocessing.Queue, "share nothing"),
    "Synchronized": (lambda: multiprocessing.Value("i"), "share nothing"),
    "UnixSelectorEventLoop": (asyncio.new_event_loop, "make it inside"),
    "sqlite3.Connection": (lambda: sqlite3.connect(":memory:"), "connect inside"),
    "socket.socket": (socket.socket, "connect inside"),
    "ssl.SSLContext": (ssl.create_default_context, "make it inside"),
    "mmap.mmap": (lambda: mmap.mmap(-1, 10), "map the file inside"),
    "TemporaryDirectory": (tempfile.TemporaryDirectory, "make it inside"),
    "_TemporaryFileWrapper": (tempfile.NamedTemporaryFile, "make it inside"),
    "csv.reader": (lambda: csv.reader([]), "list"),
    "HASH": (hashlib.sha256, "digest"),
    "zlib.Compress": (zlib.compressobj, "make it inside"),
    "os.DirEntry": (entry, ".path"),
    "open for writing": (lambda: open(os.path.join(FOLDER, "out"), "w"), "inside"),  # noqa: SIM115
    "lines are being read": (half_read, "inside"),
    "opened again": (pipe, "inside"),
    "SimpleQueue": (half_full, "queue.Queue"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_stays_where_it_is(name):
    make, way_out = REFUSED[name]
    value = make()
    with pytest.raises(pickle.PicklingError) as refused:
        program.pickler()([value])
    close(value)
    assert name in str(refused.value)
    assert way_out in str(refused.value)


def test_the_smallest_part_is_named():
    class Settings:
        __slots__ = ("tables",)

        def __init__(self, connection):
            self.tables = {"db": [1, (connection,)]}

    executor = concurrent.futures.ThreadPoolExecutor()
    assert culprit.place(executor, "pool", program.pickler()) == ""
    connection = sqlite3.connect(":memory:")
    found = culprit.find(Settings(connection), "module.CONFIG", program.pickler())
    assert found.path == "module.CONFIG.tables['db'][1][0]"
    assert found.value is connection
    assert found.kind == "sqlite3.Connection"
    assert "connect inside" in str(found.error)
    connection.close()


def test_a_class_of_the_user_knows_best():
    class Mine(threading.Thread):
        def __reduce__(self):
            return str, ("mine",)

    assert program.pickler()(Mine()).load_copy() == "mine"


def test_nothing_is_asked_of_odd_objects():
    class Meta(type):
        def __hash__(cls):
            raise AssertionError

        __eq__ = __getattr__ = __instancecheck__ = __hash__

    class Odd(metaclass=Meta):
        def __getattr__(self, name):
            raise AssertionError(name)

        __eq__ = __hash__ = __bool__ = __len__ = __getattr__

    from htdag.runtime.code import odd

    make, arguments, state, *_ = odd.reduced(Odd())
    assert (type(make(*arguments)) is Odd, state) == (True, {})
