"""The entry point of ``runtime.pyz``, in which the package ``htdag.runtime`` is `htdag_runtime`.

Its commands, and the modules that do them:

- ``work``: a job, ``work-status``: one whose status tells whether items are left; `job.worker`.
- ``post``: the POST script of a node, or of a loop; `dag.post`.
- ``list``: the jobs of a node when it is submitted again; `dag.joblist`.
- ``memory``: the memory that these jobs request; `dag.joblist`.
- ``final``: the functions at the end of a run; `dag.final`.
- ``local``: all of a run on this machine; `dag.local`.

Its syntax is as plain as possible, so that a Python too old for the rest can still report that.
"""

import sys


def main(arguments):  # type: ignore[no-untyped-def]  # read by old Pythons too
    if sys.version_info < (3, 8):
        sys.stderr.write("htdag needs Python 3.8 or newer, this is %s\n" % sys.version.split()[0])
        return 120
    command = arguments[0]
    import os
    import signal

    # Whoever waits for no processes of its own has made that so for those that it starts.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    sys.path[0] = os.path.abspath(sys.path[0])  # a job's functions work in a directory of their own
    if command in ("work", "work-status"):
        from htdag_runtime.job import worker  # type: ignore[import-not-found]

        tells = command == "work-status"
        return worker.work(arguments[1], int(arguments[2]), int(arguments[3]), tells)
    if command == "post":
        from htdag_runtime.dag import post  # type: ignore[import-not-found]

        if len(arguments) > 4:
            return post.loop_post(arguments[1], int(arguments[4]))
        return post.post(".", arguments[1], int(arguments[2]), int(arguments[3]))
    if command == "list":
        from htdag_runtime.dag import joblist

        return joblist.renew(".", arguments[1])
    if command == "memory":
        from htdag_runtime.dag import joblist

        return joblist.memory_of(".", arguments[1])
    if command == "final":
        from htdag_runtime.dag import final

        return final.final(arguments[1], int(arguments[2]))
    if command == "local":
        from htdag_runtime.dag import local

        return local.run_directory(arguments[1], int(arguments[2]))
    sys.stderr.write("unknown command %r\n" % command)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))  # type: ignore[no-untyped-call]
