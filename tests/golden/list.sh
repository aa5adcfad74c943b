#!/bin/sh
# Prints the jobs of a node, or of one lane of it, when the node is submitted: the list that was
# prepared, or, where something has happened since, what is left to do by the records of the jobs.
umask 077
node=${1%.[1-9]*}
list=nodes/$node/chunks${1#"$node"}.txt
if [ -e "$list.outdated" ] || [ ! -e "$list" ]; then
    python=/the/python
    [ -x "$python" ] || python=python3
    "$python" -S -E runtime.pyz list "$1" </dev/null >&2 || {
        # A line that HTCondor refuses; it tells what it refuses.
        echo "could-not-be-listed:see:nodes/$node/log/post.log\", 0,"
        exit 1
    }
fi
: >"$list.outdated"
exec cat "$list"
