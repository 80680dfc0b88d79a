"""A line of the Procfile means the same under honcho and supervisord."""

from __future__ import annotations

import subprocess

import pytest

from airflow_celery_lab.configuration import shell
from airflow_celery_lab.errors import ProcfileError


@pytest.mark.parametrize(
    ("line", "canonical", "executable"),
    [
        ("./lab exec redis", "./lab exec redis", "exec ./lab exec redis"),
        ("./lab exec redis  # mine", "./lab exec redis", "exec ./lab exec redis"),
        ("exec ./lab exec redis", "./lab exec redis", "exec ./lab exec redis"),
        ("A=1 B='x y' ./lab exec redis", "A=1 B='x y' ./lab exec redis", "A=1 B='x y' exec ./lab exec redis"),
        ("A=1 exec ./lab exec redis", "A=1 ./lab exec redis", "A=1 exec ./lab exec redis"),
        ("cd 'a b' && ./lab exec redis", "cd 'a b' && ./lab exec redis", "cd 'a b' && exec ./lab exec redis"),
        ("umask 77; A=1 ./lab exec redis", "umask 77; A=1 ./lab exec redis", "umask 77; A=1 exec ./lab exec redis"),
        ("test -e x || nice ./lab exec redis", "test -e x || nice ./lab exec redis", "test -e x || exec nice ./lab exec redis"),
        ("./lab exec sh -c 'a | b; c & # d'", "./lab exec sh -c 'a | b; c & # d'", "exec ./lab exec sh -c 'a | b; c & # d'"),
        ('./lab exec sh -c "a | b \\" #"', './lab exec sh -c "a | b \\" #"', 'exec ./lab exec sh -c "a | b \\" #"'),
        ("./lab exec redis >log 2>&1", "./lab exec redis >log 2>&1", "exec ./lab exec redis >log 2>&1"),
        ("./lab exec echo a#b \\# \\;", "./lab exec echo a#b \\# \\;", "exec ./lab exec echo a#b \\# \\;"),
        ("./lab exec echo $(date; id) `id`", "./lab exec echo $(date; id) `id`", "exec ./lab exec echo $(date; id) `id`"),
    ],
)
def test_the_shell_becomes_the_last_command_of_a_line(line: str, canonical: str, executable: str) -> None:
    assert shell.canonical(line) == canonical
    assert shell.executable(canonical) == executable
    assert shell.canonical(executable) == canonical


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("./lab exec redis | tee log", "|"),
        ("./lab exec redis &", "&"),
        ("a & b", "&"),
        ("(cd x && ./lab exec redis)", "("),
        ("if true; then ./lab exec redis; fi", "if"),
        ("while :; do ./lab exec redis; done", "while"),
        ("{ ./lab exec redis; }", "{"),
        ("&& ./lab exec redis", "&&"),
        ("a ;; b", ";;"),
    ],
)
def test_what_would_leave_processes_behind_is_refused(line: str, part: str) -> None:
    with pytest.raises(ProcfileError, match=r"^'") as refusal:
        shell.canonical(line)

    assert str(refusal.value).startswith(f"{part!r} would leave processes that nobody can stop; put such a command into a script")


@pytest.mark.parametrize("line", ["./lab exec redis &&", "a ;", "a ||"])
def test_a_line_that_ends_in_the_middle_is_refused(line: str) -> None:
    with pytest.raises(ProcfileError, match="ends in the middle"):
        shell.canonical(line)


@pytest.mark.parametrize("line", ["sh -c 'echo", 'echo "a', "echo `a"])
def test_an_open_quote_is_refused(line: str) -> None:
    with pytest.raises(ProcfileError, match=r"a quote is left open in .*; close it"):
        shell.canonical(line)


VARIABLES = {"SLOTS": "4", "NAME": "two words; rm", "QUOTE": 'a "b" $c `d` \\e'}


@pytest.mark.parametrize(
    "line",
    [
        "echo $SLOTS-${SLOTS}",
        "echo ${NONE:-6} ${NONE-7}",
        'echo "$NAME" "${QUOTE}"',
        "echo '$SLOTS' \\$SLOTS \"\\$SLOTS\"",
        'echo "it\'s $SLOTS" \'and "$SLOTS"\'',
        "echo 5$ $? $$",
    ],
)
def test_a_variable_is_what_a_shell_makes_of_it(line: str) -> None:
    if "$$" in line:
        assert shell.expand(line, VARIABLES) == line
        return
    expected = subprocess.check_output(["/bin/sh", "-c", line], env=VARIABLES, text=True)

    assert subprocess.check_output(["/bin/sh", "-c", shell.expand(line, VARIABLES)], env={}, text=True) == expected


def test_the_value_of_a_variable_stays_one_word() -> None:
    line = shell.expand("printf '%s|' $NAME $QUOTE", VARIABLES)

    assert subprocess.check_output(["/bin/sh", "-c", line], text=True) == f"{VARIABLES['NAME']}|{VARIABLES['QUOTE']}|"


def test_a_variable_that_nobody_has_set_is_refused() -> None:
    with pytest.raises(ProcfileError, match=r"^there is no variable PORT in \.env or the environment; set it, write \$\{PORT:-default\}"):
        shell.expand("web --port $PORT", {})
