"""What `htdag resume TAG --script` tells the pipelines of the script that it starts."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

VARIABLE = "HTDAG_RESUME"


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
    """

    tag: str
    pipeline: str
    keep_finished: tuple[str, ...] = ()

    def to_text(self) -> str:
        """Return it as the value of the environment variable."""
        return json.dumps([self.tag, self.pipeline, *self.keep_finished])


def wanted() -> Wanted | None:
    """Return what the environment says; None where it says nothing."""
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    if not text.startswith("["):  # a person's own: the tag alone
        return Wanted(text, "")
    tag, pipeline, *kept = json.loads(text)
    return Wanted(tag, pipeline, tuple(kept))
