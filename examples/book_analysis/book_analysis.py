"""Find the words that set each book apart from the others."""

import heapq
import math
import operator
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from books import command_line, king_james_bible, positive, read, share, start, title_of, words_of
from rich.console import Console
from rich.table import Table

import htdag


class Book(NamedTuple):
    title: str
    words: Counter[str]


class Row(NamedTuple):
    title: str
    words: int
    different: int
    distinctive: list[str]


def count_words(book: Path) -> Book:
    return Book(title_of(book), Counter(words_of(read(book))))


def is_long(book: Book, least: int) -> bool:
    return book.words.total() >= least


def find_distinctive(book: Book, vocabulary: Counter[str]) -> Row:
    """Find words that are frequent here, and of which the other books have few."""

    def weight(word: str) -> float:
        count = book.words[word]
        return count / vocabulary[word] * math.log(1 + count)

    distinctive = heapq.nsmallest(5, book.words, key=lambda word: (-weight(word), word))
    return Row(book.title, book.words.total(), len(book.words), distinctive)


def pipeline(
    paths: Sequence[Path], chunk_size: int | None = None, least: int = 10_000
) -> htdag.Pipeline:
    """Compare the books that have `least` words or more."""
    texts = htdag.files(paths, name="books", chunk_size=chunk_size or share(len(paths)))
    long = texts.map(count_words).filter(partial(is_long, least=least), name="long_books")
    counts = long.map(operator.attrgetter("words"), name="word_counts")
    vocabulary = counts.reduce(operator.add, initial=Counter(), name="vocabulary")
    rows = long.map(find_distinctive, bind={"vocabulary": vocabulary})
    return htdag.Pipeline(rows, name="book_analysis")


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line(__doc__)
    parser.add_argument(
        "--least",
        metavar="N",
        type=positive,
        default=10_000,
        help="leave out books of fewer words than this (default: 10,000)",
    )
    parser.add_argument(
        "--diagram",
        metavar="FILE",
        type=Path,
        help="where to draw the pipeline, as .svg, .png or .pdf (default: into the run's folder)",
    )
    args = parser.parse_args(argv)
    flow = pipeline(args.books or king_james_bible(), args.chunk_size, args.least)
    run = flow.submit(args.tag, on=args.on)
    try:
        run.wait(progress=True)
    except KeyboardInterrupt:
        run.interrupted()
        raise

    table = Table("Book")
    table.add_column("Words", justify="right")
    table.add_column("Different", justify="right")
    table.add_column("The most distinctive")
    for row in sorted(run.result(), key=lambda row: -row.words):
        table.add_row(row.title, f"{row.words:,}", f"{row.different:,}", ", ".join(row.distinctive))
    Console().print(table)

    diagram = args.diagram or run.path / "book_analysis.svg"
    flow.render(diagram)
    print(f"The pipeline, drawn: {diagram}")


if __name__ == "__main__":
    start(main)
