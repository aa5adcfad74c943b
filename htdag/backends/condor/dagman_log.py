"""The reason why a DAG failed as a whole, from DAGMan's own log (``*.dag.dagman.out``).

Failed items are not a subject of this module: their records have more than DAGMan knows.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from htdag.runtime import layout
from htdag.runtime.dag import judgement, looping
from htdag.runtime.layout import NodeFiles

_STARTS = "STARTING UP"
_STAMP = re.compile(r"^\d\d/\d\d/\d\d \d\d:\d\d:\d\d ", re.MULTILINE)
_SUBMIT_FAILURE = re.compile(r"ULOG_SUBMIT_FAILURE for HTCondor Node (\S+) [^{]*\{[^}]*\} (.*)")
# The form of HTCondor 23, where the reason comes before the message that the submission failed.
_OLD_SUBMIT_FAILURE = re.compile(
    r"Submitting node (\S+) from file [^\n]*\n((?:(?!Submitting node )[^\n]*\n)*?)"
    r"(?=[^\n]*Job submit failed after)"
)
_SCRIPT = re.compile(r"(PRE|POST) [Ss]cript of node (\S+) failed with status (\d+)")
_NO_SCRIPT = re.compile(r'Cannot access specified executable "([^"]*)": errno = \d+ \((.*)\)')
_STATUS = re.compile(r"DAG status: \d+ \((\w+)\)")
_PARSING = re.compile(r"Failed to parse (.*)")
_AT_LINE = re.compile(r"Processing error at (.*)")
_FAILED_NODE = re.compile(
    r"Node Name: (\S+)\n(?:(?!.*Node Name:).*\n)*?\s*Node Status: STATUS_ERROR"
)
_UNLISTED = re.compile(re.escape(layout.UNLISTED) + r'([^\s"]+)')
_LONGEST = 400
# DAGMan's messages for failed items. If a node's other jobs go on to their end
# (DAGMAN_REMOVE_JOB_LIST_ON_FAILURE = False), DAGMan does not count the node as failed, and looks
# for a cycle.
_UNINFORMATIVE = ("the following", "not all nodes are complete", "no cycle found")
# The statuses with which `post.sh` ends on purpose; any other means that it did not work.
_JUDGED = tuple(str(status) for status in (1, looping.STOP, judgement.NO_RETRY))
_JUDGED_LOOP = (*_JUDGED, str(looping.FAILED))


def explain(text: str, loops: Collection[str] = ()) -> str:
    """Return why a DAG failed; "" if the reason is failed items.

    Parameters
    ----------
    text : str
        The content of ``dagman.out``. Each DAGMan appends to it; only the last one counts.
    loops : collection of str
        The nodes that are loops, whose scripts have another status for failed items of a round.

    Examples
    --------
    >>> explain("11/25/26 14:49:49 ... ERROR: a cycle exists in the dag, please check input")
    'the DAG has a cycle'
    """
    text = _STAMP.sub("", text.rpartition(_STARTS)[2])
    for reasons in (_unreadable(text), _refused(text), _scripts(text, loops), _cycle(text)):
        if reasons:
            return "; ".join(dict.fromkeys(reasons))
    errors = [
        _one_line(line.partition("ERROR")[2].lstrip(": "))
        for line in text.splitlines()
        if "ERROR: " in line and not any(words in line for words in _UNINFORMATIVE)
    ]
    return "; ".join(dict.fromkeys(errors[-3:]))


def failed_nodes(text: str) -> list[str]:
    """Return the nodes that had failed when the last DAGMan ended, in its order.

    Examples
    --------
    >>> failed_nodes("Node Name: a\\n NodeID: 0\\nNode Status: STATUS_ERROR\\n")
    ['a']
    """
    nodes = _FAILED_NODE.findall(_STAMP.sub("", text.rpartition(_STARTS)[2]))
    return list(dict.fromkeys(nodes))


def was_halted(text: str) -> bool:
    """Return whether a DAG ended without a failure because it was halted."""
    text = text.rpartition(_STARTS)[2]
    last = _STATUS.findall(text)[-1:]
    # Before version 24, DAGMan reported the status OK, wrote a rescue DAG, and ended with 1.
    older = last == ["DAG_STATUS_OK"] and _HALTED in text and _RESCUE in text
    return older or last == ["DAG_STATUS_HALTED"]


def _unreadable(text: str) -> list[str]:
    match = _PARSING.search(text)
    if match is None:
        return []
    line = _AT_LINE.search(text)
    where = f", at {line[1]}" if line else ""
    errors = [
        _one_line(entry.partition("ERROR: ")[2])
        for entry in text.splitlines()
        if "ERROR: " in entry
    ]
    return [f"DAGMan could not read the DAG {_one_line(match[1])}{where}: {'; '.join(errors)}"]


def _refused(text: str) -> list[str]:
    failures = _SUBMIT_FAILURE.findall(text) or _OLD_SUBMIT_FAILURE.findall(text)
    return [f"node {node} could not be submitted: {_reason(reason)}" for node, reason in failures]


def _reason(text: str) -> str:
    unlisted = _UNLISTED.search(text)
    return f"its jobs could not be listed, see {unlisted[1]}" if unlisted else _one_line(text)


def _scripts(text: str, loops: Collection[str]) -> list[str]:
    missing = [
        f"DAGMan could not start the script {name}: {reason}"
        for name, reason in _NO_SCRIPT.findall(text)
    ]
    if missing:
        return missing
    return [
        f"the {kind} script of node {node} ended with status {status}{_MEANINGS.get(status, '')}: "
        f"see {NodeFiles('', node).post_log} and the output of {layout.POST} in dagman.out"
        for kind, node, status in _SCRIPT.findall(text)
        if status not in (_JUDGED_LOOP if node in loops else _JUDGED)
    ]


_HALTED, _RESCUE = "DAG is halted because halt file", "Writing Rescue DAG to"
_MEANINGS = {"126": " (its program cannot be run)", "127": " (its program was not found)"}


def _cycle(text: str) -> list[str]:
    return ["the DAG has a cycle"] if "a cycle exists in the dag" in text else []


def _one_line(text: str) -> str:
    """Return a text as one line, cut if it is very long."""
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."
