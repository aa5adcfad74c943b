# htdag's runtime: a zip archive of Python modules behind this script. It looks for the Python that
# pickled the functions, whose version the line before sets, and else takes any python3, which will
# say what is wrong.
# work: the exit status says that the outcome was delivered. work-status: also, whether all is done.
case $1 in work*)
    out="nodes/$2/out"
    mkdir -p "$out" "nodes/$2/log" ;;
esac
# What run.sh of an environment has found; not for the programs that functions start.
python=${HTDAG_PYTHON:-} flags=${HTDAG_PYTHON_FLAGS:-} problem=${HTDAG_PROBLEM:-}
unset HTDAG_PYTHON HTDAG_PYTHON_FLAGS HTDAG_PROBLEM
[ -z "$python" ] || [ -n "$problem" ] || exec "$python" $flags "$0" "$@"
for name in python$pickled_by python3; do
    [ -z "$problem" ] || break
    # With its path: without PATH in the environment Python could not find out what it is.
    if python=$(command -v "$name" 2>/dev/null); then
        [ "$name" != python3 ] ||
            "$python" -S -E -c 'import sys; sys.exit(sys.version_info < (3, 8))' || continue
        exec "$python" -E "$0" "$@"
    fi
done
type=EnvironmentNotReady
if [ -z "$problem" ]; then
    type=PythonNotFound
    problem="there is no python$pickled_by on $(hostname), nor any python3 from 3.8 on its \
PATH; choose other execute nodes, or give the stage an environment that brings Python"
    echo "htdag: PATH=$PATH" >&2
    echo "htdag: $problem" >&2
else
    echo "htdag: $problem" >&2
    # As it can stand in JSON.
    problem=$(printf '%s' "$problem" | tr '"\\\n\t\r' "'/   ") ||
        problem="the environment cannot be set up; the job's standard error says why"
fi
case $1 in
    work) status=0 ;;
    work-status) status=1 ;;
    *) exit 120 ;;
esac
# The outcome files must exist, or HTCondor holds the job for them.
node=$2 chunk=$3 attempt=$4
mkdir -p "$out/$chunk.$attempt.files"
shift 4
sizes= values=
for stage in "$@"; do
    : >"$out/$chunk.$attempt.$stage.items"
    sizes="$sizes${sizes:+, }0" values="$values${values:+, }0"
done
{
    printf '{"start": {"node": "%s", "chunk": "%s", "attempt": %s, "host": "%s", ' \
        "$node" "$chunk" "$attempt" "$(hostname)"
    printf '"python": "none", "time": 0}}\n'
    printf '{"error": {"stage": "%s", "key": null, "sequence": null, ' "$1"
    printf '"type": "%s", "message": "%s", "traceback": ""}}\n' "$type" "$problem"
    printf '{"end": {"items": null, "done": 0, "failed": 0, "remaining": null, '
    printf '"mismatch": "%s", ' "$type"
    printf '"values": [%s], "sizes": [%s], "seconds": 0, "peak_kb": 0, "time": 0}}\n' \
        "$values" "$sizes"
} >"$out/$chunk.$attempt.record"
exit $status
