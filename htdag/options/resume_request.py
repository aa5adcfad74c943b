"""What `htdag resume TAG --script` tells the pipelines of the script that it starts."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

VARIABLE = "HTDAG_RESUME"
_TAKEN = "-"  # no pipeline has this name


@dataclass(frozen=True)
class Wanted:
    """The run to go on with.

    Attributes
    ----------
    tag : str
        Its tag.
    pipeline : str
        The name of its pipeline: the first one of that name which the script starts without a tag
        of its own goes on with it.
    keep_finished : tuple of str
        As for `htdag.Pipeline.submit`.
    receipt : str
        A file to make when the run is gone on with.
    """

    tag: str
    pipeline: str
    keep_finished: tuple[str, ...] = ()
    receipt: str = ""

    def to_text(self) -> str:
        """Return it as the value of the environment variable."""
        return json.dumps([self.tag, self.pipeline, self.receipt, *self.keep_finished])

    def means(self, pipeline: str, tag: str | None) -> bool:
        """Tell whether a pipeline that is started with a tag, or without, is the one."""
        return tag == self.tag if tag is not None else self.pipeline in ("", pipeline)

    def take(self) -> None:
        """Note that it was started, so that another one without a tag begins a run of its own."""
        if self.receipt:
            Path(self.receipt).touch()
        os.environ[VARIABLE] = replace(self, pipeline=_TAKEN).to_text()


def wanted() -> Wanted | None:
    """Return what the environment says; None where it says nothing."""
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    if not text.startswith("["):  # a person's own: the tag alone
        return Wanted(text, "")
    tag, pipeline, receipt, *kept = json.loads(text)
    return Wanted(tag, pipeline, tuple(kept), receipt)
