#!/usr/bin/env python3
"""A hand-written book analysis: the same as examples/book_analysis/book_analysis.py.

count OUTPUT LIST                    the words of each long book, and those of all of them
vocabulary OUTPUT COUNT ...          the words of all chunks
distinctive OUTPUT VOCABULARY COUNT  what sets the books of a chunk apart
"""

import heapq
import math
import os
import pickle
import re
import sys
import unicodedata
from collections import Counter

WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
LEAST = 10_000


def load(path):
    with open(path, "rb") as file:
        return pickle.load(file)


def count(list_of_paths):
    with open(list_of_paths) as file:
        paths = file.read().split()
    books = []
    for path in paths:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            text = unicodedata.normalize("NFC", file.read())
        words = Counter(WORD.findall(text.casefold().replace("\u2019", "'")))
        if sum(words.values()) >= LEAST:
            books.append((os.path.splitext(os.path.basename(path))[0], words))
    total = Counter()
    for _, words in books:
        total += words
    return books, total


def vocabulary(paths):
    total = Counter()
    for path in paths:
        total += load(path)[1]
    return total


def distinctive(vocabulary_path, counts_path):
    everything = load(vocabulary_path)
    rows = []
    for title, words in load(counts_path)[0]:

        def weight(word, words=words):
            return words[word] / everything[word] * math.log(1 + words[word])

        found = heapq.nsmallest(5, words, key=lambda word: (-weight(word), word))
        rows.append((title, sum(words.values()), len(words), found))
    return rows


def main(command, output, *inputs):
    if command == "count":
        result = count(*inputs)
    elif command == "vocabulary":
        result = vocabulary(inputs)
    elif command == "distinctive":
        result = distinctive(*inputs)
    else:
        sys.exit("unknown command " + command)
    os.makedirs(os.path.dirname(output), exist_ok=True)
    with open(output, "wb") as file:
        pickle.dump(result, file, 5)


if __name__ == "__main__":
    main(*sys.argv[1:])
