"""Chain map, filter and reduce over plain Python functions, and run the chain on HTCondor DAGMan.

Examples
--------
>>> import htdag
>>> squares = htdag.source(range(10)).map(lambda x: x * x)
>>> total = squares.filter(lambda x: x % 2 == 0).reduce(lambda a, b: a + b)
>>> flow = htdag.Pipeline(total, name="even_squares")
>>> flow.run()  # doctest: +SKIP
120
"""

from htdag.catalog.housekeeping import clean, import_run
from htdag.catalog.lookup import load, runs
from htdag.common import package as _package
from htdag.environments import Environment
from htdag.errors import HtdagError, RunFailed, RunHeld
from htdag.functions import image as _image  # noqa: F401 (pickles refer to it)
from htdag.functions.programs import command
from htdag.options.transfer import TransferPath, TransferURL
from htdag.pipeline import Pipeline
from htdag.plan import Plan
from htdag.run import Item, ItemError, MissingItem, Run, RunState, Status
from htdag.runtime.api.checkpoint import checkpoint
from htdag.runtime.api.command import Command, CommandError
from htdag.runtime.api.current import Current, current
from htdag.runtime.code import reducers as _reducers  # noqa: F401 (pickles refer to it)
from htdag.runtime.dag.final import RunSummary
from htdag.runtime.files.paths import OutputFile
from htdag.stages import MISSING, Stage, files, iterate, map, source, starmap
from htdag.stages.decorator import stage

__version__ = _package.VERSION

__all__ = [
    "MISSING",
    "Command",
    "CommandError",
    "Current",
    "Environment",
    "HtdagError",
    "Item",
    "ItemError",
    "MissingItem",
    "OutputFile",
    "Pipeline",
    "Plan",
    "Run",
    "RunFailed",
    "RunHeld",
    "RunState",
    "RunSummary",
    "Stage",
    "Status",
    "TransferPath",
    "TransferURL",
    "__version__",
    "checkpoint",
    "clean",
    "command",
    "current",
    "files",
    "import_run",
    "iterate",
    "load",
    "map",
    "runs",
    "source",
    "stage",
    "starmap",
]
