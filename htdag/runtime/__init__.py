"""What runs in a job, and beside DAGMan: the standard library and cloudpickle only.

This package is shipped with every run as the archive ``runtime.pyz``, where its name is
``htdag_runtime``; on the submitting side it is ``htdag.runtime``. It therefore imports itself
relatively only, never htdag, and stays valid for Python 3.8.
"""
