"""Programs as functions of the item."""

from __future__ import annotations

import dataclasses
import datetime
import os
import pickle
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

import htdag
from htdag.errors import UsageError

if TYPE_CHECKING:
    from pool import Pool

ARGUMENTS = ["sh", "-c", 'for a in "$0" "$@"; do printf "<%s>" "$a"; done']


def shown(*words, **options):
    return htdag.command([*ARGUMENTS, *words], **options)


@given(st.text().filter(lambda text: "\0" not in text and text.isprintable()))
def test_a_value_is_one_argument_whatever_is_in_it(text):
    assert shown("{input}")(text) == f"<{text}>"


@given(st.text(alphabet="a '\"$`\\;&|<>*?{}()#~!\n"))
def test_a_shell_sees_values_as_they_are(text):
    assert htdag.command("printf %s {input}", shell=True)(text) == text


class Pair(NamedTuple):
    left: int
    right: str


@pytest.mark.parametrize(
    ("words", "item", "printed"),
    [
        (["{input}"], 3.5, "<3.5>"),
        (["{0}", "-{1}"], ("a", 2), "<a><-2>"),
        (["{x}={y}"], {"x": 1, "y": "b c"}, "<1=b c>"),
        (["{right}"], Pair(1, "r"), "<r>"),
        (["{stem}", "{suffix}"], Path("/data/gene.fa"), "<gene><.fa>"),
        (["{input}"], ["a b", Path("c")], "<a b><c>"),
        (["{{x}}"], 1, "<{x}>"),
    ],
)
def test_fields(words, item, printed):
    assert shown(*words)(item) == printed


def test_values_of_all_items_and_bound_ones():
    assert shown("{input}", "{db}", db="nt")("a") == "<a><nt>"
    assert shown("{input}", "{db}")("a", db="other") == "<a><other>"


def test_words_are_split_as_by_a_shell_but_without_one():
    assert htdag.command("printf '%s|' 'two words' $HOME {input}")("x y") == "two words|$HOME|x y|"


@pytest.mark.parametrize(
    ("returns", "result"),
    [("text", "hello\n"), ("bytes", b"hello\n"), (lambda path: Path(path).name, "out.txt")],
)
def test_what_was_written(returns, result):
    write = htdag.command("cp {input} {output}", returns=returns, output="out.txt")
    file = Path(__file__)
    if isinstance(result, bytes):
        assert write(file) == file.read_bytes()
    elif callable(returns):
        assert write(file) == result
    else:
        assert write(file) == file.read_text()


@dataclasses.dataclass
class Sample:
    name: str


ODD = ["a b", "it's", '"', "-rf", "ü\n", "$HOME", "{x}", "*", ".hidden", "..."]


@pytest.mark.parametrize("shell", [False, True])
@pytest.mark.parametrize("name", ODD)
def test_the_name_of_what_is_written_is_made_of_the_item(name, shell):
    make = partial(htdag.command, "touch {output}", returns=os.path.basename, shell=shell)
    assert make(output="{name}.bam")({"name": name}) == f"{name}.bam"
    assert make(output="{name}")(Sample(name)) == name
    assert make(output="{0}-{1}")((name, 3)) == f"{name}-3"
    assert make(output="{{{left}}}{right}")(Pair(1, name)) == "{1}" + name
    assert make(output="{stem}.{kind}", kind="bai")(Path("/x") / f"{name}.bam") == f"{name}.bai"


@pytest.mark.parametrize("name", ["a/b", "/etc/passwd", "..", "."])
def test_what_is_no_name_is_refused_for_its_item(name):
    write = htdag.command("touch {output}", output="{name}")
    with pytest.raises(htdag.CommandError, match=r"output='\{name\}' is .* not a file name"):
        write({"name": name})
    with pytest.raises(htdag.CommandError, match=r"\{name\} is not known: the item is a dict"):
        write({"sample": name})


def test_the_status():
    status = htdag.command("sh -c 'exit 3'", returns="status", ok_exit=(0, 3))
    assert status(None) == 3


def test_a_status_that_is_a_failure(capfd):
    fails = htdag.command("sh -c 'echo out; echo oops >&2; exit 4'")
    with pytest.raises(htdag.CommandError, match=r"exit status 4") as caught:
        fails(1)
    assert (caught.value.status, caught.value.stderr) == (4, "oops")
    assert str(caught.value).endswith("oops")
    out, err = capfd.readouterr()
    assert (out, err) == ("out\n", "oops\n")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.status) == (str(caught.value), 4)


def test_a_signal_is_named():
    with pytest.raises(htdag.CommandError, match="killed by SIGKILL"):
        htdag.command("sh -c 'kill -KILL $$'")(1)


def test_a_program_that_is_not_there():
    with pytest.raises(htdag.CommandError, match=r"no program 'blastn-x' on .*PATH="):
        htdag.command("blastn-x {input}")(1)


def test_an_output_that_was_not_written():
    with pytest.raises(htdag.CommandError, match=r"did not write its \{output\}"):
        htdag.command("true {output}", returns="text")(1)


@pytest.mark.parametrize("timeout", [0.2, datetime.timedelta(seconds=0.2)])
def test_a_timeout_ends_what_the_program_started_too(timeout):
    begun = time.monotonic()
    with pytest.raises(htdag.CommandError, match=r"longer than its timeout of 0.2 s"):
        htdag.command("sh -c 'sleep 30; true'", timeout=timeout)(1)
    assert time.monotonic() - begun < 20


def test_the_environment_is_added_to():
    assert htdag.command("sh -c 'echo $GREETING $HOME'", env={"GREETING": 1})(0).startswith("1 /")


@pytest.mark.parametrize(
    ("template", "options", "message"),
    [
        ("", {}, "no program"),
        ([], {}, "no program"),
        ("echo '{input}", {}, "quotation"),
        ("echo {", {}, "double a literal brace"),
        ("echo {input!r}", {}, "not a field"),
        ("echo '{input}' | cat", {"shell": True}, "inside of quotes"),
        (["echo"], {"shell": True}, "one text"),
        ("echo", {"returns": "text"}, "needs {output}"),
        ("echo", {"returns": "json"}, "neither one of"),
        ("echo {output}", {"output": "a/b"}, "not a file name"),
        ("echo {output}", {"output": "{x}/b"}, "not a file name"),
        ("echo {output}", {"output": ".."}, "not a file name"),
        ("echo {output}", {"output": "{output}.txt"}, "part of itself"),
        ("echo {output}", {"output": "{x!r}"}, "not a field"),
        ("echo {output}", {"output": "{x"}, "double a literal brace"),
        ("echo", {"db": "x"}, "db is in no field"),
        ("echo", {"timeout": 0}, "timeout"),
    ],
)
def test_mistakes_are_raised_where_they_are_made(template, options, message):
    with pytest.raises(UsageError, match=f"htdag.command: .*{message}"):
        htdag.command(template, **options)


def test_fields_that_are_not_known():
    with pytest.raises(htdag.CommandError, match=r"{db} is not known: the item is a int"):
        htdag.command("echo {db}")(1)
    with pytest.raises(htdag.CommandError, match="a dict cannot be an argument"):
        htdag.command("echo {input}")({})


def test_a_stage_has_the_name_of_the_program():
    stage = htdag.source(["a"]).map(htdag.command("/usr/bin/wc -c {input}"))
    assert stage.name == "wc"
    assert pickle.loads(cloudpickle.dumps(stage.operation.function))("/dev/null").startswith("0")


UPPER = htdag.command('sh -c \'tr a-z A-Z <"$0" >"$1"\' {input} {output}', output="upper.txt")


def used(path):
    return UPPER(path)


def inner(path):
    return htdag.command("wc -c {input}")(path).split()[0]


def pipeline(folder):
    (folder / "it's a file.txt").write_text("abcde")
    files = htdag.files(str(folder / "it*.txt"))
    loud = htdag.command("sh -c 'echo said; echo heard >&2; cat \"$0\"' {input}", returns="status")
    fails = htdag.command("sh -c 'echo no >&2; exit 1'", returns="status")
    upper = files.map(UPPER, name="upper")
    sizes = upper.map(lambda path: (path.name, path.read_text()), name="sizes", fuse=False)
    return htdag.Pipeline(
        upper,
        files.map(used, name="used"),
        sizes,
        files.map(inner, name="count"),
        files.map(loud, name="loud"),
        files.map(fails, name="fails", fuse=False),
        name="programs",
    )


def check(run):
    assert run.result("count") == ["5"]
    assert run.result("sizes") == [("upper.txt", "ABCDE")]
    for stage in ("upper", "used"):
        (path,) = run.result(stage)
        assert path.read_text() == "ABCDE"
    assert run.result("loud") == [0]
    assert run.stdout("loud", "0") == "said\nabcde"
    assert run.stderr("loud", "0") == "heard\n"
    (error,) = run.errors()
    assert (error.stage, error.type, error.traceback) == ("fails", "htdag.CommandError", "")
    assert "no" in error.message


def test_programs_run_here(tmp_path, monkeypatch):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path / "home"))
    run = pipeline(tmp_path).submit(on="local")
    with pytest.raises(htdag.RunFailed):
        run.wait(timeout=200)
    check(run)


@pytest.mark.pool
def test_programs_run_where_nothing_is_seen(pool: Pool, runs_dir: Path):
    with pool.only("blind"):
        run = pipeline(runs_dir).submit(on="condor")
        with pytest.raises(htdag.RunFailed):
            run.wait(timeout=200)
    check(run)
