"""The code that runs in jobs and beside DAGMan, with only the standard library and cloudpickle.

This package is shipped with every run as the archive ``runtime.pyz``, where its name is
``htdag_runtime``; on the submitting side it is ``htdag.runtime``. It therefore imports itself
relatively only, never htdag, and stays valid for Python 3.8.
"""
