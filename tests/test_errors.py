"""The exceptions: one tree, told truly, and all of it public."""

from __future__ import annotations

import inspect

import pytest

import htdag
from htdag import errors

CLASSES = {
    name: thing
    for name, thing in vars(errors).items()
    if inspect.isclass(thing) and issubclass(thing, BaseException)
}


def test_all_names_every_exception():
    assert sorted(errors.__all__) == sorted(CLASSES)
    assert errors.__all__ == sorted(errors.__all__)


def test_all_exceptions_have_one_base():
    kinds = [kind for kind in CLASSES.values() if not issubclass(kind, Warning)]
    assert all(issubclass(kind, errors.HtdagError) for kind in kinds)
    assert issubclass(errors.HtdagError, Exception)


def documented_tree() -> dict[str, str]:
    """The parent of each exception, as the docstring draws it."""
    parents: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        if line.strip() == "UserWarning":
            above = [(line.index("UserWarning"), "UserWarning")]
        words = line.replace("├──", " ").replace("└──", " ").replace("│", " ").split()
        if not words or words[0] not in CLASSES:
            continue
        depth = line.index(words[0])
        above = [entry for entry in above if entry[0] < depth]
        if above:
            parents[words[0]] = above[-1][1]
        above.append((depth, words[0]))
    return parents


def test_the_docstring_draws_the_tree_as_it_is():
    real = {
        name: kind.__bases__[0].__name__
        for name, kind in CLASSES.items()
        if kind is not errors.HtdagError
    }
    assert documented_tree() == real


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_exception_says_what_it_is_for(name):
    assert inspect.getdoc(CLASSES[name])
    assert CLASSES[name].__module__ == "htdag.errors"


def test_not_done_is_a_timeout():
    assert issubclass(errors.NotDone, TimeoutError)


def test_a_failed_run_carries_its_errors():
    assert errors.RunFailed("it failed").errors == []
    assert errors.RunFailed("it failed", ["why"]).errors == ["why"]
    assert str(errors.RunFailed("it failed", ["why"])) == "it failed"


@pytest.mark.parametrize("name", ["HtdagError", "RunFailed", "RunHeld"])
def test_what_scripts_catch_is_at_the_top(name):
    assert getattr(htdag, name) is getattr(errors, name)
