"""Count the letters of each book."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from books import command_line, king_james_bible, read, share, start, title_of
from rich.console import Console
from rich.table import Table

import htdag


def count_letters(book: Path) -> tuple[str, Counter[str]]:
    letters = Counter(letter for letter in read(book).casefold() if letter.isalpha())
    return title_of(book), letters


def pipeline(paths: Sequence[Path], chunk_size: int | None = None) -> htdag.Pipeline:
    texts = htdag.files(paths, name="books", chunk_size=chunk_size or share(len(paths)))
    return htdag.Pipeline(texts.map(count_letters), name="letter_counts")


def main(argv: Sequence[str] | None = None) -> None:
    args = command_line(__doc__).parse_args(argv)
    flow = pipeline(args.books or king_james_bible(), args.chunk_size)
    counts = flow.run(args.tag, on=args.on)

    table = Table("Book")
    table.add_column("Letters", justify="right")
    table.add_column("The most frequent, in percent", no_wrap=True)
    for title, letters in counts:
        total = letters.total()
        shares = [f"{letter} {100 * n / total:2.0f}" for letter, n in letters.most_common(6)]
        table.add_row(title, f"{total:,}", "  ".join(shares))
    Console().print(table)


if __name__ == "__main__":
    start(main)
