#!/usr/bin/env python3
"""A hand-written job: squares of the numbers of a chunk that are even; and the sum of them all."""

import json
import os
import sys


def load(path):
    with open(path) as file:
        return json.load(file)


def main(command, output, *inputs):
    if command == "chunk":
        squares = [number * number for number in load(inputs[0])]
        result = sum(square for square in squares if square % 2 == 0)
    elif command == "square":
        result = [number * number for number in load(inputs[0])]
    elif command == "filter":
        result = sum(square for square in load(inputs[0]) if square % 2 == 0)
    elif command == "sum":
        result = sum(map(load, inputs))
    else:
        sys.exit("unknown command " + command)
    os.makedirs(os.path.dirname(output), exist_ok=True)
    with open(output, "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
