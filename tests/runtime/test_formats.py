"""What is JSON has types: signatures say which, and what older versions did not write may lack."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import htdag
from htdag.runtime.formats import plan, record

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(htdag.__file__).parent
# These hold what users gave, or namespaces of Python; no format of htdag's own.
UNTYPED = {
    "backends.condor.pool_state.answer",  # arguments of PoolState
    "observe.groups.as_dict",  # for users, who write them as JSON
    "observe.item_errors.as_dict",
    "observe.loading._make_class",  # keywords of a class
    "observe.matchmaking._emptied",  # an ad
    "run.edit.edit",  # attributes that a user gives
    "run.run.edit",
    "run.run.script",  # for users it is a mapping
    "run.replay._chained",  # values by name
    "run.replay._reduction",
    "run.replay.as_dict",
    "runtime.api.command.__init__",
    "runtime.api.command.command",
    "runtime.api.current._granted",  # arguments of Current
    "runtime.api.template.__init__",
    "runtime.data.chunkfile.bound_values",
    "runtime.files.paths._former_names",  # modules
    "runtime.job.bound.__init__",
    "runtime.job.program._spread_arguments",
    "runtime.job.program.chain",
    "runtime.job.program.keywords",
    "runtime.job.program.keywords_of",
    "show.tables.print_settings",
}
TYPED = ("backends", "catalog", "compile", "observe", "reuse", "run", "runtime", "show")


def untyped_signatures() -> Iterator[str]:
    """Yield the functions that take or return a dict of anything."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if not name.startswith(TYPED) or name.startswith("runtime.code."):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                every = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                signature = [node.returns, *(argument.annotation for argument in every)]
                texts = [ast.unparse(each).lower() for each in signature if each is not None]
                if any("dict[str, any]" in text or "mapping[str, any]" in text for text in texts):
                    yield f"{name}.{node.name}"


def test_signatures_name_the_types_of_what_is_json() -> None:
    assert set(untyped_signatures()) == UNTYPED


def pruned(content: dict[str, Any], kind: Any) -> dict[str, Any]:
    """What an older version may have written."""
    return {key: value for key, value in content.items() if key not in kind.__optional_keys__}


def inverse(number: int) -> float:
    return 1 / number


def test_a_run_can_be_read_whose_files_lack_what_older_versions_did_not_write(
    runs_dir: Path,
) -> None:
    stage = htdag.source([1, 0], chunk_size=2).map(inverse)
    run = htdag.Pipeline(stage, name="old").submit("old", on="local")
    with pytest.raises(htdag.RunFailed):
        run.wait(progress=False)
    manifest = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(pruned(manifest, plan.Manifest)))
    content = pruned(json.loads((run.path / "plan.json").read_text()), plan.PlanContent)
    content["nodes"] = [pruned(node, plan.NodeEntry) for node in content["nodes"]]
    content["stages"] = [pruned(entry, plan.StageEntry) for entry in content["stages"]]
    (run.path / "plan.json").write_text(json.dumps(content))
    path = run.path / "nodes/inverse/out/0000.1.record"
    kinds = {"start": record.RecordStart, "error": record.RecordError, "end": record.RecordEnd}
    lines = []
    for line in map(json.loads, path.read_text().splitlines()):
        ((key, value),) = line.items()
        lines.append(json.dumps({key: pruned(value, kinds[key]) if key in kinds else value}))
    path.write_text("\n".join(lines) + "\n")

    old = htdag.load("old")
    assert old.state is htdag.RunState.FAILED
    assert [(error.key, error.type, error.item) for error in old.errors()] == [
        ("1", "ZeroDivisionError", "")
    ]
    assert [item.value for item in old.items(errors="skip")] == [1.0]
    assert [item.state for item in old.item_states("inverse")] == ["done", "failed"]
    assert old.status()["inverse"].done == 1
    assert old.usage() == []
    assert old.script is None
