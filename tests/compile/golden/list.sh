#!/bin/sh
# Prints the jobs of a node, or of one lane of it, when the node is submitted: the list that was
# prepared, or, where something has happened since, what is left to do by the records of the jobs.
# With "memory" it prints the memory to ask for, where earlier jobs of the node needed more.
umask 077
node=${1%.[1-9]*}
if [ "$2" = memory ]; then
    for record in nodes/"$node"/out/*.record; do
        [ -e "$record" ] || exit 0
        python=/the/python
        [ -x "$python" ] || python=python3
        exec "$python" -S -E runtime.pyz memory "$1" </dev/null
    done
fi
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
