"""Templates of commands: words in which fields in braces stand for values."""

from __future__ import annotations

import numbers
import os
import shlex
import string
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple, Union

Words = Tuple[str, ...]

_FORMATTER = string.Formatter()


class FieldError(Exception):
    """The value of a field is missing or cannot be an argument."""


class Fields:
    """The values that the fields of a template stand for.

    Attributes
    ----------
    path : str
        The file that the program should write.
    """

    def __init__(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        self._arguments = arguments
        self._keywords = keywords
        self.path = ""

    def value(self, name: str) -> Any:
        if name == "output":
            return self.path
        if name in self._keywords:
            return self._keywords[name]
        item = self._arguments[0] if len(self._arguments) == 1 else tuple(self._arguments)
        if name == "input":
            return item
        if name.isdigit() and isinstance(item, (list, tuple)) and int(name) < len(item):
            return item[int(name)]
        if isinstance(item, dict):
            if name in item:
                return item[name]
        elif name.isidentifier() and hasattr(item, name):
            return getattr(item, name)
        raise FieldError(
            "{%s} is not known: the item is a %s, %s"
            % (
                name,
                type(item).__name__,
                "and there are " + ", ".join(sorted(self._keywords))
                if self._keywords
                else "and htdag.command was given no other values",
            )
        )


def name_fields(name: str) -> List[str]:
    """Return the fields in the name of a file; raise `ValueError` if it can never be a name."""
    fields = _checked_fields(name)
    if "output" in fields:
        raise ValueError("output=%r: {output} cannot be a part of itself" % (name,))
    literals = "".join(part[0] for part in _FORMATTER.parse(name))
    if "\0" in literals or "/" in literals or (not fields and literals in ("", ".", "..")):
        raise ValueError("output=%r is not a file name" % (name,))
    return fields


def filled_name(template: str, fields: Fields) -> str:
    """Return the name of the file that a program should write for an item."""
    name = _filled(template, fields, str)
    if "/" in name or name in ("", ".", ".."):
        raise FieldError(
            "output=%r is %r for this item, which is not a file name; for an item that is a path, "
            "use {stem} or {name}" % (template, name)
        )
    return name


def filled_words(template: Union[str, Words], fields: Fields) -> Words:
    """Return a program and its arguments; a template that is a text is for the shell."""
    if isinstance(template, str):
        return ("/bin/sh", "-c", _filled(template, fields, shlex.quote))
    words: List[str] = []
    for word in template:
        alone = _alone(word)
        value = None if alone is None else fields.value(alone)
        if isinstance(value, (list, tuple)):
            words += map(_text, value)
        else:
            words.append(_filled(word, fields, str))
    return tuple(words)


def _alone(word: str) -> Optional[str]:
    """Return the field that makes up all of a word, or None."""
    parts = list(_FORMATTER.parse(word))
    if len(parts) == 1 and not parts[0][0] and parts[0][1] is not None:
        return parts[0][1]
    return None


def _filled(template: str, fields: Fields, quote: Callable[[str], str]) -> str:
    text = ""
    for literal, name, _, _ in _FORMATTER.parse(template):
        text += literal
        if name is not None:
            value = fields.value(name)
            several = isinstance(value, (list, tuple)) and quote is not str
            text += " ".join(map(quote, map(_text, value))) if several else quote(_text(value))
    return text


def _text(value: Any) -> str:
    if isinstance(value, (str, os.PathLike)):
        text = os.fsdecode(value)
    elif isinstance(value, numbers.Number):  # numpy's, too
        text = str(value)
    else:
        raise FieldError(
            "a %s cannot be an argument of a program: give texts, numbers or paths"
            % type(value).__name__
        )
    if "\0" in text:
        raise FieldError("an argument of a program cannot have a null character: %r" % text)
    return text


def parsed(template: Union[str, Sequence[str]], shell: bool) -> Tuple[Union[str, Words], List[str]]:
    """Return a template as words, or as a text for the shell, and the names of its fields.

    Raises `ValueError` if it has mistakes.
    """
    words: Union[str, Words]
    if isinstance(template, str) and shell:
        words = template
        _refuse_quoted_fields(template)
    elif isinstance(template, str):
        try:
            words = tuple(shlex.split(template))
        except ValueError as error:
            raise ValueError("%r: %s" % (template, error)) from None
    else:
        words = tuple(template)
        if shell or not all(isinstance(word, str) for word in words):
            raise ValueError("with shell=True the template is one text, else a text or a list")
    if not words or not words[0].strip():
        raise ValueError("there is no program in %r" % (template,))
    each = [words] if isinstance(words, str) else words
    return words, [name for word in each for name in _checked_fields(word)]


def _checked_fields(text: str) -> List[str]:
    try:
        parts = list(_FORMATTER.parse(text))
    except ValueError as error:
        raise ValueError("%r: %s; double a literal brace" % (text, error)) from None
    names = []
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if form or conversion or not (name.isidentifier() or name.isdigit()):
            raise ValueError(
                "{%s} in %r is not a field: there are {input}, {output}, {0}, {name}; "
                "double a literal brace" % (name, text)
            )
        names.append(name)
    return names


def _refuse_quoted_fields(text: str) -> None:
    """Raise `ValueError` for fields inside of quotes: each value is quoted as a whole."""
    quote = ""
    position = 0
    while position < len(text):
        character = text[position]
        if character == "\\" and quote != "'":
            position += 1
        elif character in "'\"" and quote in ("", character):
            quote = "" if quote else character
        elif text[position : position + 2] in ("{{", "}}"):
            position += 1
        elif character == "{" and quote:
            raise ValueError(
                "a field is inside of quotes in %r; omit the quotes, each value is quoted already"
                % text
            )
        position += 1
