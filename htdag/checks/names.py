"""Names that DAGMan, file systems and people can all read."""

from __future__ import annotations

import re
import unicodedata

from htdag.checks.validation import shown
from htdag.errors import StageNameError

# DAGMan refuses PARENT, CHILD and ALL_NODES as node names in any case of letters; the others are
# words of its language that would make a DAG file hard to read.
_RESERVED = frozenset(
    [
        "parent",
        "child",
        "all_nodes",
        "job",
        "node",
        "final",
        "provisioner",
        "service",
        "subdag",
        "splice",
        "done",
        "vars",
        "retry",
        "script",
        "config",
    ]
)
_STAGE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,79}")
_LONGEST_TAG = 100


def check_stage_name(name: object, what: str = "stage") -> str:
    """Return a name given by the user, or raise `StageNameError`, which says what to do."""
    if not isinstance(name, str):
        raise StageNameError(
            f"the name of a {what} is a str, not {type(name).__name__}: {shown(name)}"
        )
    if not _STAGE.fullmatch(name):
        raise StageNameError(
            f"{shown(name)} cannot name a {what}: it also names DAGMan nodes and files, so use 1 "
            f"to 80 ASCII letters, digits, '_' and '-', beginning with a letter or '_' "
            f"(for instance {derived_name(name)!r})"
        )
    return name


def checked_name(given: str | None, derived: str, kind: str) -> str:
    """Return the name that was given, checked, or one made of what the stage does."""
    return derived_name(derived, kind) if given is None else check_stage_name(given)


def derived_name(text: str, fallback: str = "stage") -> str:
    """Return a valid name as close as possible to the name of a function or file."""
    text = text.replace("ß", "ss")
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", ascii_text).strip("_-")[:60]
    if not name or not re.match(r"[A-Za-z_]", name):
        name = f"{fallback}_{name}".rstrip("_")
    return name


def node_name(name: str) -> str:
    """Return the name of a node in the DAG: that of its stages, unless DAGMan reserves it."""
    return name + "_" if name.lower() in _RESERVED else name


def unique_name(name: str, taken: set[str] | frozenset[str]) -> str:
    """Return the name, or the first of name-2, name-3, ... that is not taken.

    Upper and lower case count as equal, as in DAGMan's reserved words and some file systems.
    """
    lower = {other.lower() for other in taken}
    if name.lower() not in lower:
        return name
    number = 2
    while f"{name}-{number}".lower() in lower:
        number += 1
    return f"{name}-{number}"


def check_tag(tag: object) -> str:
    """Return a tag for a run, or raise `StageNameError`.

    A tag names a directory. It can be any printable text, with spaces and non-ASCII letters too,
    but without slashes, a leading dot or dash, or characters of tag patterns.
    """
    if not isinstance(tag, str):
        raise StageNameError(f"a tag is a str, not {type(tag).__name__}: {shown(tag)}")
    problem = ""
    if not tag or tag != tag.strip():
        problem = "it is empty or begins or ends with white space"
    elif len(tag.encode("utf-8", "surrogatepass")) > _LONGEST_TAG:
        problem = f"it is longer than {_LONGEST_TAG} bytes"
    elif tag[0] in ".-":
        problem = f"it begins with {tag[0]!r}"
    elif any(character in "/\\*?[]" for character in tag):
        problem = "it holds one of / \\ * ? [ ]"
    elif not tag.isprintable():
        problem = "it holds characters that cannot be printed"
    if problem:
        raise StageNameError(
            f"{shown(tag)} cannot be a tag: {problem}; a tag names the run's directory"
        )
    return tag
