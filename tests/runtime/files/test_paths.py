"""Paths of files that travel, as pickles name them."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import pytest

from htdag.runtime.files import file_references, paths


@pytest.mark.parametrize("name", sorted(file_references.ARRIVED))
def test_pickles_of_every_version_are_read(name: tuple[str, str], tmp_path: Path):
    (tmp_path / "files" / "7").mkdir(parents=True)
    (tmp_path / "files" / "7" / "picture.png").touch()
    reference = json.dumps({"at": "files/7", "name": "picture.png"})
    module, attribute = name
    called = b"c%s\n%s\n(V%s\ntR." % (module.encode(), attribute.encode(), reference.encode())
    data = (
        called
        if "." not in attribute
        else b"\x80\x04\x8c%c%s\x8c%c%s\x93\x8c%c%s\x85R."
        % (
            *(len(module), module.encode(), len(attribute), attribute.encode()),
            *(len(reference), reference.encode()),
        )
    )
    before = set(sys.modules)
    site = file_references.Here(str(tmp_path), str(tmp_path), frozenset(), lambda path: (path, ""))
    with paths.entered(site):
        path = pickle.loads(data)
    assert path == tmp_path / "files" / "7" / "picture.png"
    assert path._reference == reference
    assert set(sys.modules) <= before
