"""Mix every two books: their sentences in turn."""

import itertools
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from books import (
    command_line,
    king_james_bible,
    positive,
    read,
    sentences_of,
    share,
    start,
    title_of,
)

import htdag


class Excerpt(NamedTuple):
    title: str
    sentences: list[str]


class Mashup(NamedTuple):
    first: str
    second: str
    text: str


def excerpt(book: Path, length: int) -> Excerpt:
    """Take sentences from the middle of as many equal parts of the book."""
    sentences = sentences_of(read(book))
    if len(sentences) > length:
        middles = ((2 * part + 1) * len(sentences) // (2 * length) for part in range(length))
        sentences = [sentences[middle] for middle in middles]
    return Excerpt(title_of(book), sentences)


def mix(one: Excerpt, other: Excerpt) -> Mashup:
    turns = zip(one.sentences, other.sentences, strict=False)
    return Mashup(one.title, other.title, "\n".join(itertools.chain.from_iterable(turns)))


def pipeline(
    paths: Sequence[Path], chunk_size: int | None = None, length: int = 5
) -> htdag.Pipeline:
    """Mix every two of the books, with up to `length` sentences of each."""
    texts = htdag.files(paths, name="books", chunk_size=share(len(paths)))
    excerpts = texts.map(partial(excerpt, length=length))

    size = chunk_size or share(math.comb(len(paths), 2))
    pairs = excerpts.combinations(2, name="pairs", chunk_size=size)
    return htdag.Pipeline(pairs.starmap(mix), name="mashup")


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line(__doc__, items="pairs")
    parser.add_argument(
        "--length",
        metavar="N",
        type=positive,
        default=5,
        help="how many sentences of each book (default: 5)",
    )
    parser.add_argument(
        "--write", metavar="FOLDER", type=Path, help="write each mashup into a file of this folder"
    )
    args = parser.parse_args(argv)
    paths = args.books or king_james_bible()
    if len(paths) < 2:
        parser.error("it takes two books or more")
    mashups = pipeline(paths, args.chunk_size, args.length).run(args.tag, on=args.on)

    if args.write:
        args.write.mkdir(parents=True, exist_ok=True)
        for mashup in mashups:
            name = f"{mashup.first} + {mashup.second}.txt"
            (args.write / name).write_text(mashup.text + "\n", encoding="utf-8")
    sample = mashups[len(mashups) // 2]
    print(f"{len(mashups):,} mashups of {len(paths)} books, for instance", end=" ")
    print(f"{sample.first} with {sample.second}:\n\n{sample.text}")
    if args.write:
        print(f"\nAll of them: {args.write}")


if __name__ == "__main__":
    start(main)
