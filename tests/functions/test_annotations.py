"""What annotations say of paths in results."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt
import pytest

from htdag.functions.annotations import holds_no_path

T = TypeVar("T")


class Book(NamedTuple):
    title: str
    words: Counter[str]


class Shelf(NamedTuple):
    books: list[Book]
    where: Path


@dataclasses.dataclass(frozen=True)
class Tree:
    name: str
    children: tuple[Tree, ...]


class Row(TypedDict):
    name: str
    values: list[float]


class Other:
    pass


PLAIN = [
    None,
    int,
    int | None,
    list[tuple[str, ...]],
    dict[str, Counter[str]],
    Iterator[bytes],
    Book,
    Tree,
    Row,
    Literal["a", 1],
    Annotated[int, "seconds"],
    np.ndarray,
    npt.NDArray[np.float64],
    np.float64,
]
UNKNOWN = [Any, T, Path, str | Path, list, dict, Other, Shelf, list[Shelf], Callable[[], int]]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement `type` is of Python 3.12")
def test_what_names_for_types_stand_for() -> None:
    names: dict[str, Any] = {"Path": Path}
    exec(
        "type Words = list[str]\ntype Several[T] = tuple[T, ...]\ntype Tree = dict[str, Tree]\n"
        "type Places = list[Path]",
        names,
    )
    for hint in (names["Words"], names["Several"][int], names["Tree"]):
        assert holds_no_path(annotated(hint))
    for hint in (names["Places"], names["Several"][Path]):
        assert not holds_no_path(annotated(hint))


def counted(path: Path, least: int) -> Book:
    return Book(path.name, Counter())


def annotated(hint: Any) -> Callable[[Any], Any]:
    def function(item):
        return item

    function.__annotations__ = {"return": hint}
    return function


@pytest.mark.parametrize("hint", PLAIN, ids=str)
def test_what_can_hold_no_path(hint: Any):
    assert holds_no_path(annotated(hint))


@pytest.mark.parametrize("hint", UNKNOWN, ids=str)
def test_what_may_hold_one(hint: Any):
    assert not holds_no_path(annotated(hint))


def test_texts_partials_and_types():
    def unknown(path: Path) -> Nowhere: ...  # type: ignore[name-defined]  # noqa: F821

    assert holds_no_path(functools.partial(counted, least=3))
    assert holds_no_path(str)
    assert not holds_no_path(Path)
    assert not holds_no_path(unknown)
    assert not holds_no_path(lambda path: path)
    assert not holds_no_path(len)
