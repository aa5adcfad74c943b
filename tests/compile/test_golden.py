"""The files that HTCondor reads, against files that a person has looked at.

Compared is what HTCondor understands: commands and their values, not comments, blank lines, the
order of commands, or the path of this machine's Python. After a change that is meant, write the
files anew with ``HTDAG_WRITE_GOLDEN=1 pytest tests/compile/test_golden.py``, and read the
difference.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import reference

import htdag
from htdag.runtime import layout, planfile
from htdag.runtime.lanes import children, parents, unit
from htdag.runtime.lanes import units as units_of
from htdag.runtime.layout import NodeFiles

GOLDEN = Path(__file__).parent / "golden"
WRITE = "HTDAG_WRITE_GOLDEN"


def double(x):
    return 2 * x


def odd(x):
    return x % 2 == 1


def add(a, b):
    return a + b


def share(x, total):
    return x / total


def numbers(count=20):
    return htdag.source(range(count), name="numbers")


def fused():
    return htdag.Pipeline(numbers().map(double).filter(odd).reduce(add), name="fused")


def retries():
    return htdag.Pipeline(numbers().map(double, retries=3, on_error="skip"), name="retries")


def on_error_stop():
    first = numbers().map(double, on_error="stop")
    return htdag.Pipeline(first.map(odd, retries=1, on_error="stop"), name="on_error_stop")


def options():
    stage = numbers().map(
        double,
        request_cpus=2,
        request_memory="1.5GB",
        request_disk="10GB",
        request_gpus=1,
        retry_request_memory="4GB",
        requirements='OpSysAndVer == "Debian12"',
        rank="Mips",
        priority=5,
        accounting_group="group_physics",
        max_materialize=100,
        max_idle=50,
        allowed_job_duration="1h",
        concurrency_limits={"license": 2, "database": 1},
        submit={"+ProjectName": '"Books"', "max_retries": 0},
    )
    return htdag.Pipeline(stage.map(odd), name="options", requirements="HasFileTransfer")


def throttles():
    items = numbers().map(double)
    first = items.map(odd, category="database", fuse=False)
    last = first.filter(bool, category="disk", node_priority=-3, fuse=False)
    other = items.map(abs, priority=2, fuse=False)
    return htdag.Pipeline(
        last,
        other,
        name="throttles",
        max_jobs_submitted=5,
        max_jobs_idle=200,
        max_post_scripts=3,
        maxjobs={"disk": 4, "database": 2},
        dagman={"DAGMAN_SUBMIT_DELAY": 1, "dagman_hold_claim_time": 5},
    )


def binds():
    items = numbers().map(double)
    total = items.reduce(add, name="total")
    shares = items.map(share, bind={"total": total})
    return htdag.Pipeline(shares, total, name="binds")


def tree():
    stage = numbers(30).map(double, chunk_size=1)
    return htdag.Pipeline(stage.reduce(add, fan_in=5), name="tree")


def files():
    texts = htdag.files([GOLDEN / "list.sh", GOLDEN / "post.sh"], name="texts")
    return htdag.Pipeline(texts.map(os.path.getsize), name="files")


def lanes():
    first = numbers().map(double, chunk_size=4, retries=2, on_error="stop", node_priority=3)
    second = first.map(odd, request_memory="2GB", category="database")
    total = second.reduce(add, name="total")
    return htdag.Pipeline(total, name="lanes", lanes=2, maxjobs={"database": 4})


PIPELINES = {
    flow.__name__: flow for flow in (fused, retries, on_error_stop, options, binds, tree, lanes)
}
PIPELINES |= {"files": files, "throttles": throttles}


@pytest.fixture(params=PIPELINES)
def made(request, tmp_path):
    """A fresh run directory, and the folder of its golden files."""
    run = reference.compiled(PIPELINES[request.param](), tmp_path / "run")
    return run, GOLDEN / request.param


def read_dag(path):
    """The statements of a DAG file: edges one by one, all else as words."""
    statements = []
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "PARENT":
            middle = words.index("CHILD")
            statements += [
                ("EDGE", parent, child)
                for parent in words[1:middle]
                for child in words[middle + 1 :]
            ]
        else:
            statements.append(tuple(words))
    return sorted(statements)


def read_submit(path):
    """The commands of a submit description by lower-case name, and its queue statement."""
    commands = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("queue"):
            assert "queue" not in commands
            commands["queue"] = line.split()
            continue
        assert "queue" not in commands, "commands after the queue statement are not used"
        name, _, value = line.partition("=")
        name = name.strip().lower()
        assert name not in commands, f"{name} is given twice"
        commands[name] = [part.strip() for part in value.split(", ")]
    return commands


def tells_by_status(path):
    return read_submit(path)["arguments"][0].split()[1] == "work-status"


def read_script(path):
    """The commands of a shell script, without what names this machine's Python."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("# ")]
    return [re.sub(r"^( *)python=/.*", r"\1python=PYTHON", line) for line in lines]


def read_config(path):
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def submit_files(run):
    return {path.name: path for path in run.glob(f"{layout.NODES}/*/*.sub")}


def write_golden(run, golden):
    shutil.rmtree(golden, ignore_errors=True)
    golden.mkdir(parents=True)
    for path in [*run.glob("*.dag"), *submit_files(run).values()]:
        text = re.sub(r"(written by htdag) .*", r"\1.", path.read_text(encoding="utf-8"))
        (golden / path.name).write_text(text, encoding="utf-8")
    text = (run / layout.POST).read_text()
    (GOLDEN / "post.sh").write_text(re.sub(r"(?m)^python=/.*", "python=/the/python", text))
    text = (run / layout.LIST).read_text()
    (GOLDEN / "list.sh").write_text(re.sub(r"(?m)python=/.*", "python=/the/python", text))
    shutil.copyfile(run / layout.CONFIG, golden / "dagman.config")


def test_the_files_are_the_golden_ones(made):
    run, golden = made
    if os.environ.get(WRITE):
        write_golden(run, golden)
    (dag,) = run.glob("*.dag")
    assert read_dag(dag) == read_dag(golden / dag.name)
    subs = submit_files(run)
    assert {dag.name, *subs, layout.CONFIG} == {path.name for path in golden.iterdir()}
    for name, path in subs.items():
        assert read_submit(path) == read_submit(golden / name), name
    assert read_config(run / layout.CONFIG) == read_config(golden / layout.CONFIG)
    for name in (layout.POST, layout.LIST):
        assert read_script(run / name) == read_script(GOLDEN / name)


def test_no_golden_file_is_left_over():
    assert {path.name for path in GOLDEN.iterdir()} == {*PIPELINES, "list.sh", "post.sh"}


def test_node_names_parse_back_from_the_dag(made):
    run, _ = made
    (dag,) = run.glob("*.dag")
    statements = read_dag(dag)
    plan = planfile.read(str(run))
    nodes = {unit.name: node for node in plan["nodes"] for unit in units_of(node)}
    jobs = {words[1]: words[2] for words in statements if words[0] == "JOB"}
    assert jobs == {name: NodeFiles("", node["name"]).submit for name, node in nodes.items()}
    edges = {words[1:] for words in statements if words[0] == "EDGE"}
    units = [unit(name) for name in nodes]
    assert edges == {(above.name, u.name) for u in units for above in parents(plan, u)}
    assert edges == {(u.name, below.name) for u in units for below in children(plan, u)}
    lists = {words[1]: words[2:] for words in statements if words[0] == "VARS"}
    assert lists == {u.name: ("PREPEND", f'unit="{u.name}"') for u in units if u.lane}
    scripts = {words[2]: words[3:] for words in statements if words[:2] == ("SCRIPT", "POST")}
    by_status = {name for name, file in jobs.items() if tells_by_status(run / file)}
    assert scripts == {
        name: (layout.POST, name, "$RETRY", "$MAX_RETRIES") for name in jobs.keys() - by_status
    }
    retried = {words[1]: int(words[2]) for words in statements if words[0] == "RETRY"}
    assert retried == {name: n["retries"] for name, n in nodes.items() if n["retries"]}
    stopping = {words[1] for words in statements if words[0] == "ABORT-DAG-ON"}
    assert stopping == {name for name, n in nodes.items() if n["on_error"] == "stop"}


def test_what_a_job_needs_is_transferred_and_there(made):
    run, _ = made
    for node in planfile.read(str(run))["nodes"]:
        commands = read_submit(Path(NodeFiles(run, node["name"]).submit))
        assert (commands["executable"], commands["transfer_executable"]) == (["/bin/sh"], ["False"])
        lists = [Path(NodeFiles(run, unit.node).chunk_list(unit.lane)) for unit in units_of(node)]
        lines = [line for path in lists for line in path.read_text().splitlines()]
        assert len(lines) == node["chunks"]
        for line in lines:
            chunk, attempt, inputs = line.split(", ", 2)
            values = {"$(chunk)": chunk, "$(attempt)": attempt, "$(inputs)": inputs}
            sent = ", ".join(commands["transfer_input_files"])
            for macro, value in values.items():
                sent = sent.replace(macro, value)
            sent = sent.split(", ")
            # What its parents are yet to write will be there when the node is submitted.
            missing = [path for path in sent if "/out/" not in path and not (run / path).exists()]
            assert missing == []
            job = NodeFiles(run, node["name"]).attempt(int(chunk), int(attempt))
            description = Path(job.description).read_text()
            for path in re.findall(r'"([^"]+\.items)"', description):
                assert path in sent


def test_what_a_job_brings_back_is_what_it_writes(made):
    run, _ = made
    for node in planfile.read(str(run))["nodes"]:
        commands = read_submit(Path(NodeFiles(run, node["name"]).submit))
        back = [
            path.replace("$(chunk)", "0000").replace("$(attempt)", "1")
            for path in commands["transfer_output_files"]
        ]
        assert back == [
            NodeFiles("", node["name"]).attempt(0, 1).record,
            *(NodeFiles("", node["name"]).attempt(0, 1).output(stage) for stage in node["outputs"]),
        ]
        words = commands["arguments"][0].split()
        assert words[1] in ("work", "work-status")
        assert [words[0], *words[2:]] == [
            layout.RUNTIME,
            node["name"],
            "$(chunk)",
            "$(attempt)",
            *node["outputs"],
        ]


def test_the_scripts_are_sound_shell(made):
    run, _ = made
    for name in (layout.POST, layout.LIST):
        assert (run / name).stat().st_mode & stat.S_IXUSR
        subprocess.run(["sh", "-n", run / name], check=True)
    preamble = (run / layout.RUNTIME).read_bytes().split(b"PK\x03\x04")[0]
    subprocess.run(["sh", "-n"], input=preamble, check=True)


def test_everything_is_for_its_owner_only(made):
    run, _ = made
    for path in [run, *run.rglob("*")]:
        if not path.is_symlink() and not path.is_dir():
            assert path.stat().st_mode & 0o077 == 0, path
    assert run.stat().st_mode & 0o077 == 0


def test_equal_pipelines_have_equal_archives(tmp_path):
    runs = [reference.compiled(fused(), tmp_path / name) for name in "ab"]
    first, second = [(run / layout.RUNTIME).read_bytes() for run in runs]
    assert first == second
