"""The request of `htdag resume TAG --script` to the pipelines of the script that it starts."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

VARIABLE = "HTDAG_RESUME"
_ACKNOWLEDGED = "-"  # no pipeline has this name


@dataclass(frozen=True)
class ScriptRequest:
    """The run that a pipeline of the script should resume.

    Attributes
    ----------
    tag : str
        Its tag.
    pipeline : str
        The name of its pipeline: the first pipeline of this name that the script starts without a
        tag resumes the run.
    keep_finished : tuple of str
        As for `htdag.Pipeline.submit`.
    receipt : str
        A file to make when the run is resumed.
    """

    tag: str
    pipeline: str
    keep_finished: tuple[str, ...] = ()
    receipt: str = ""

    def to_text(self) -> str:
        """Return it as the value of the environment variable."""
        return json.dumps([self.tag, self.pipeline, self.receipt, *self.keep_finished])

    def applies_to(self, pipeline: str, tag: str | None) -> bool:
        """Return whether a pipeline that is started with the given tag, or None, is requested."""
        return tag == self.tag if tag is not None else self.pipeline in ("", pipeline)

    def acknowledge(self) -> None:
        """Report the start, so that later pipelines without a tag start runs of their own."""
        if self.receipt:
            Path(self.receipt).touch()
        os.environ[VARIABLE] = replace(self, pipeline=_ACKNOWLEDGED).to_text()


def from_environment() -> ScriptRequest | None:
    """Return the request in the environment; None if there is none."""
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    if not text.startswith("["):  # set by a person: the tag alone
        return ScriptRequest(text, "")
    tag, pipeline, receipt, *kept = json.loads(text)
    return ScriptRequest(tag, pipeline, tuple(kept), receipt)
