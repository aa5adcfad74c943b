"""Mistakes that show in jobs: what is told of them, and what to do, without htdag's own frames."""

from __future__ import annotations

import pytest

import htdag


def add(a, b):
    return a + b


NUMBERS = htdag.source([1, 2], chunk_size=2)


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (
            htdag.source([(1, 2, 3)]).starmap(add),
            "TypeError: add() takes 2 positional arguments but 3 were given",
        ),
        (NUMBERS.reduce(sum), "TypeError: 'int' object is not iterable"),
        (
            htdag.source([1, "a", None]).sort_by(),
            "the keys to sort by cannot be compared: '<' not supported between instances of",
        ),
        (
            NUMBERS.map(lambda n: (each for each in range(n))),
            "the result, a generator, cannot be pickled",
        ),
    ],
    ids=["too many arguments", "a function that is no Python", "no order", "a generator"],
)
def test_the_message_says_what_to_do(stage, said, tmp_path, monkeypatch):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path))
    run = htdag.Pipeline(stage, name="mistakes", history=False).submit(on="local")
    with pytest.raises(htdag.RunFailed) as caught:
        run.wait(timeout=200, progress=False)
    assert said in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert run.errors()[0].traceback == ""


def test_a_comparison_of_the_users_own_is_an_error_as_it_is(tmp_path, monkeypatch):
    class Odd:
        def __lt__(self, other):
            raise TypeError("never")

    monkeypatch.setenv("HTDAG_HOME", str(tmp_path))
    stage = htdag.source([1, 2]).sort_by(lambda n: Odd())
    run = htdag.Pipeline(stage, history=False).submit(on="local")
    with pytest.raises(htdag.RunFailed, match="TypeError: never"):
        run.wait(timeout=200, progress=False)
    assert "in __lt__" in run.errors()[0].traceback
