#!/usr/bin/env python3
"""A hand-written job: twice 50 ms of CPU for each item of a chunk."""

import json
import os
import sys
import time


def burn(item):
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    return item + 1


def main(output, chunk):
    with open(chunk) as file:
        items = json.load(file)
    result = [burn(burn(item)) for item in items]
    os.makedirs(os.path.dirname(output), exist_ok=True)
    with open(output, "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
