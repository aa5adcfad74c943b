"""Try values in all their places: imported by the scripts that `test_objects.py` writes.

In a script the function ``global_X`` reaches the value X as a global, ``default_X`` as a default,
and so on; ``make_X`` makes it, ``raise_X`` raises an exception with it, ``probe_X`` asks it. What
they say is told in plain Python, or by runs, as ``{place: {X: [word, text]}}``.
"""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import sys
import tempfile
import warnings

import cloudpickle

IN_CODE = ("global", "default", "closure", "attribute", "module")
AS_DATA = ("item", "result", "bind", "initial")
TOGETHER = ("default", "item", "bind", "initial", "key")  # places where values are in one file
AT_ONCE = 500  # values in one job's functions
ALL = 1000  # one job, which loads once what functions need


class Raised(Exception):
    """An exception with a value in it."""

    def __init__(self, value):
        super().__init__(value)


def said(function, value):
    """What a function says, or how it failed."""
    try:
        return ["said", repr(function(value))]
    except BaseException as error:
        return ["raised", f"{type(error).__name__}: {error}"]


def call(functions, slug):
    return slug, said(functions[slug], None)


def probe_one(probes, slugs, number, value):
    return slugs[number], said(probes[slugs[number]], value)


def probe_all(probes, values):
    return [(slug, said(probes[slug], value)) for slug, value in values.items()]


def probe_bound(probes, slugs, values):
    return [(s, said(probes[s], value)) for s, value in zip(slugs, values, strict=True)]


def probe_initial(probes, values, _):
    return probe_all(probes, values)


def same(value):
    return value


# --- plain Python -------------------------------------------------------------------------


class Plain:
    """What plain Python says."""

    def __init__(self, names, tables):
        self.names = names
        self.tables = tables

    def all(self):
        return {place: getattr(self, place, self.code)(place) for place in self.tables}

    def code(self, place):
        functions = {slug: self.names[f"{place}_{slug}"] for slug in self.tables[place]}
        return {slug: said(function, None) for slug, function in functions.items()}

    def data(self, place):
        """Values that can be pickled are what they were; others are refused."""
        answers = {}
        for slug in self.tables[place]:
            try:
                value = pickled(self.names[f"make_{slug}"](None))
            except Exception as error:
                answers[slug] = ["refused", f"{type(error).__name__}: {error}"]
            else:
                answers[slug] = said(self.names[f"probe_{slug}"], value)
        return answers

    item = result = bind = initial = data

    def exception(self, place):
        answers = {}
        for slug in self.tables[place]:
            try:
                self.names[f"raise_{slug}"](None)
            except Exception as error:
                name = f"{type(error).__module__}.{type(error).__qualname__}"
                name = name.removeprefix("builtins.")
                try:
                    answers[slug] = ["said", f"{name}: {error}"]
                except Exception:
                    answers[slug] = ["said", f"{name}: ?"]
        return answers

    def key(self, place):
        groups = {}
        answers = {}
        for slug in self.tables[place]:
            try:
                groups.setdefault(self.names[f"make_{slug}"](None), []).append(slug)
            except TypeError:
                answers[slug] = ["refused", "not hashable"]
        for members in groups.values():
            answers.update({slug: ["said", " ".join(sorted(members))] for slug in members})
        return answers


def pickled(value):
    file = io.BytesIO()
    cloudpickle.Pickler(file, 5).dump(value)
    return pickle.loads(file.getvalue())


# --- runs ---------------------------------------------------------------------------------


class Runs:
    """What runs say, with as few of them as possible."""

    def __init__(self, names, tables, on, fuse, packed):
        self.names = names
        self.tables = tables
        self.on = on
        self.fuse = fuse
        self.packed = packed
        self.number = 0

    def all(self):
        return {place: self.place(place) for place in self.tables}

    def place(self, place):
        slugs = list(self.tables[place])
        build = functools.partial(self.code, place) if place in IN_CODE else getattr(self, place)
        answers = {}
        for slug in slugs:
            # One that is refused would spoil the others.
            if place in TOGETHER and not self.travels(slug):
                answers.update(self.compiled(build, slug))
        others = [slug for slug in slugs if slug not in answers]
        parts = [others[n : n + AT_ONCE] for n in range(0, len(others), AT_ONCE)]
        if others:
            answers.update(self.tried(build, parts))
        return answers

    def compiled(self, build, slug):
        """Compile a pipeline with one value; return how it is refused, or nothing."""
        import htdag

        try:
            with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
                self.flow([build([slug])]).compile(os.path.join(folder, "run"))
        except htdag.HtdagError as error:
            return {slug: ["refused", f"{type(error).__name__}: {error}"]}
        except Exception as error:
            return {slug: ["broke", f"{type(error).__name__}: {error}"]}
        return {}

    def travels(self, slug):
        try:
            pickled(self.value(slug))
        except Exception:
            return False
        return True

    def value(self, slug):
        default = self.names.get(f"default_{slug}")
        return default.__defaults__[0] if default else self.names[f"make_{slug}"](None)

    def tried(self, build, parts):
        """Run all parts at once. Where that fails, find what is refused, and run all the others.

        Only values that are in one run show what is between them, such as equal keys.
        """
        answers, failure = self.attempt(build, parts)
        if failure is None:
            return answers
        answers = self.halves(build, parts, failure)
        parts = [[s for s in part if answers[s][0] not in ("refused", "broke")] for part in parts]
        parts = [part for part in parts if part]
        together, failure = self.attempt(build, parts) if parts else ({}, None)
        if failure is not None:
            text = f"together with others only: {failure[1]}"
            together = {slug: ["broke", text] for part in parts for slug in part}
        return {**answers, **together}

    def halves(self, build, parts, failure):
        """Run each part alone; where there is one only, both halves of it."""
        if len(parts) == 1:
            (part,) = parts
            if len(part) == 1:
                return {part[0]: failure}
            middle = len(part) // 2
            parts = [part[:middle], part[middle:]]
        answers = {}
        for part in parts:
            found, failure = self.attempt(build, [part])
            answers.update(found if failure is None else self.halves(build, [part], failure))
        return answers

    def attempt(self, build, parts):
        """Return the answers of a run, and how it failed: ``refused`` with an error of htdag's."""
        import htdag

        try:
            return dict(self.run([build(part) for part in parts])), None
        except htdag.HtdagError as error:
            return {}, ["refused", f"{type(error).__name__}: {error}"]
        except Exception as error:
            # Whatever is no error of htdag's is not for users to see.
            return {}, ["broke", f"{type(error).__name__}: {error}"]

    def flow(self, stages):
        import htdag

        named = [stage.with_options() for stage, _ in stages]
        given = {"environment": htdag.Environment.packed(self.packed)} if self.packed else {}
        return htdag.Pipeline(*named, name="objects", history=False, **given)

    def run(self, stages):
        self.number += 1
        readers = [reader for _, reader in stages]
        flow = self.flow(stages)
        run = flow.submit(on=self.on).wait(timeout=280, progress=False)
        for target, reader in zip(flow.targets, readers, strict=True):
            yield from reader(run, target)
        run.clean() if hasattr(run, "clean") else None

    def probes(self, slugs):
        return {slug: self.names[f"probe_{slug}"] for slug in slugs}

    def code(self, place, slugs):
        import htdag

        functions = {slug: self.names[f"{place}_{slug}"] for slug in slugs}
        stage = (
            htdag.source(slugs, chunk_size=ALL)
            .map(same)
            .map(functools.partial(call, functions), **self.fuse)
        )
        return stage, lambda run, target: run.result(target)

    def item(self, slugs):
        import htdag

        values = [self.names[f"make_{slug}"](None) for slug in slugs]
        numbered = htdag.source(values, chunk_size=ALL).map(same).enumerate()
        probe = functools.partial(probe_one, self.probes(slugs), slugs)
        stage = numbered.starmap(probe, chunk_size=ALL, **self.fuse)
        return stage, lambda run, target: run.result(target)

    def result(self, slugs):
        import htdag

        makers = {slug: self.names[f"make_{slug}"] for slug in slugs}
        made = htdag.source(slugs, chunk_size=ALL).map(
            functools.partial(make_one, makers), on_error="skip", max_errors=len(slugs)
        )
        if self.fuse:
            made = made.map(same, on_error="skip", max_errors=len(slugs), **self.fuse)
        return made, functools.partial(self.read_result, slugs)

    def read_result(self, slugs, run, target):
        """Results are asked here, as users do; one that did not come has an error."""
        for error in run.errors():
            if error.key is not None:
                text = f"{error.type}: {error.message}"
                yield slugs[int(error.key)], ["refused", text]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for item in run.items(target, errors="skip"):
                slug = slugs[int(item.key)]
                yield slug, said(self.names[f"probe_{slug}"], item.value)

    def bind(self, slugs):
        import htdag

        values = [self.names[f"make_{slug}"](None) for slug in slugs]
        probe = functools.partial(probe_bound, self.probes(slugs))
        bound = htdag.source(values, chunk_size=ALL).map(same)
        stage = htdag.source([slugs], chunk_size=ALL).map(
            probe, bind={"values": bound}, **self.fuse
        )
        return stage, lambda run, target: run.result(target)[0]

    def initial(self, slugs):
        import htdag

        values = {slug: self.names[f"make_{slug}"](None) for slug in slugs}
        probe = functools.partial(probe_initial, self.probes(slugs))
        stage = htdag.source([0], chunk_size=ALL).reduce(
            probe, initial=values, associative=False, **self.fuse
        )
        return stage, lambda run, target: run.result(target)

    def exception(self, slugs):
        import htdag

        raisers = {slug: self.names[f"raise_{slug}"] for slug in slugs}
        stage = htdag.source(slugs, chunk_size=ALL).map(
            functools.partial(make_one, raisers),
            on_error="skip",
            max_errors=len(slugs),
            **self.fuse,
        )
        return stage, functools.partial(self.read_exception, slugs)

    def read_exception(self, slugs, run, target):
        for error in run.errors():
            yield slugs[int(error.key)], ["said", f"{error.type}: {error.message}"]

    def key(self, slugs):
        import htdag

        values = [self.names[f"make_{slug}"](None) for slug in slugs]
        pairs = htdag.source(values, chunk_size=ALL).zip(htdag.source(slugs, chunk_size=ALL))
        options = {"on_error": "skip", "max_errors": len(slugs), **self.fuse}
        groups = pairs.group_by(first, **options)
        return groups, functools.partial(self.read_key, slugs)

    def read_key(self, slugs, run, target):
        for error in run.errors():
            yield (
                slugs[int(error.key.partition(":")[0].partition("+")[0])],
                [
                    "refused",
                    f"{error.type}: {error.message}",
                ],
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for item in run.items(target, errors="skip"):
                members = [slug for _, slug in item.value[1]]
                yield from ((slug, ["said", " ".join(sorted(members))]) for slug in members)


def make_one(makers, slug):
    return makers[slug](None)


def first(pair):
    return pair[0]


def main(names):
    with open(sys.argv[1]) as file:
        asked = json.load(file)
    if asked["on"] == "plain":
        tried = Plain(names, asked["tables"])
    else:
        tried = Runs(names, asked["tables"], asked["on"], asked["fuse"], asked["packed"])
    answers = tried.all()
    with open(asked["answers"], "w") as file:
        json.dump({"answers": answers, "runs": getattr(tried, "number", 0)}, file)
