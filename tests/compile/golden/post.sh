#!/bin/sh
# Judges an attempt of a node by the records of its jobs, and lists what is left to do.
# Arguments: the node, $RETRY and $MAX_RETRIES. It reads no user values.
python=/the/python
[ -x "$python" ] || python=python3
exec "$python" -S -E runtime.pyz post "$@"
