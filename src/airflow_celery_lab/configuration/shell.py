"""What a line of the Procfile is to a shell. honcho and supervisord both hand it to `/bin/sh -c`, each in its own way.

A line is a list of commands with `&&`, `||` or `;` between them. What more a shell could do (pipes, loops, background
commands) would leave processes that neither of the two can stop, so it is refused: a script can do it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from airflow_celery_lab.errors import ProcfileError

#: Between two commands of a line.
SEPARATORS = ("&&", "||", ";")
#: What begins a loop, a condition or a group.
RESERVED = frozenset({"if", "then", "else", "elif", "fi", "do", "done", "case", "esac", "while", "until", "for", "{", "}", "!", "function"})
ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z_0-9]*=")
VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z_0-9]*)|\{([A-Za-z_][A-Za-z_0-9]*)(?::?-([^}]*))?\})")


class Word(NamedTuple):
    """A word of a line, quotes included, and where it stands; or an operator."""

    text: str
    start: int
    end: int
    operator: bool


def words(line: str) -> list[Word]:
    """Return the words and operators of a line, without its comment.

    Raises:
        ProcfileError: a quote is left open.

    """
    found: list[Word] = []
    position = 0
    while position < len(line):
        if line[position].isspace():
            position += 1
            continue
        if line[position] == "#":
            break
        operator = line[position] in ";&|()<>"
        end = _operator_end(line, position) if operator else _word_end(line, position)
        found.append(Word(line[position:end], position, end, operator))
        position = end
    return found


def commands(line: str) -> list[list[Word]]:
    """Return the words of each command of a line.

    Raises:
        ProcfileError: a quote is left open, or the line is more than a list of commands.

    """
    result: list[list[Word]] = [[]]
    for word in words(line):
        first = not result[-1]
        if word.operator and word.text in SEPARATORS and not first:
            result.append([])
        elif (word.operator and word.text[0] in ";&|()" and not _is_redirection(word.text)) or (first and word.text in RESERVED):
            raise ProcfileError(
                f"{word.text!r} would leave processes that nobody can stop; put such a command into a script, and run that."
            )
        else:
            result[-1].append(word)
    if not result[-1]:
        raise ProcfileError(f"{line!r} ends in the middle; write a command after the last {SEPARATORS[0]!r} or {SEPARATORS[2]!r}.")
    return result


def canonical(line: str) -> str:
    """Return a line without its comment, and without an `exec` before its last command: `executable` puts it there.

    Raises:
        ProcfileError: as `commands`.

    """
    if not words(line):
        raise ProcfileError("there is no command; write one, or remove the line.")
    every = commands(line)
    position = _exec_position(every[-1])
    end = every[-1][-1].end
    before, after = line[:position], line[position:end]
    return before + re.sub(r"exec\s+(?=\S)", "", after, count=1) if re.match(r"exec\s+\S", after) else before + after


def executable(line: str) -> str:
    """Return a canonical line in which the shell becomes the last command, whose signals it would otherwise keep."""
    position = _exec_position(commands(line)[-1])
    return f"{line[:position]}exec {line[position:]}"


def expand(line: str, variables: Mapping[str, str]) -> str:
    """Return a line with `$NAME`, `${NAME}` and `${NAME:-default}` replaced outside single quotes; each value stays one word.

    Raises:
        ProcfileError: there is no variable of that name, and no default.

    """
    result, position, quote = [], 0, ""
    while position < len(line):
        character = line[position]
        if character == "\\" and quote != "'":
            result.append(line[position : position + 2])
            position += 2
            continue
        if character in "'\"" and quote in ("", character):
            quote = "" if quote else character
        match = VARIABLE.match(line, position) if character == "$" and quote != "'" else None
        result.append(_value(match, variables, quote) if match else character)
        position = match.end() if match else position + 1
    return "".join(result)


def _value(match: re.Match[str], variables: Mapping[str, str], quote: str) -> str:
    name = match[1] or match[2]
    value = variables.get(name, match[3])
    if value is None:
        raise ProcfileError(
            f"there is no variable {name} in .env or the environment; set it, write ${{{name}:-default}}, or put single quotes around a `$`."
        )
    return re.sub(r'(["\\$`])', r"\\\1", value) if quote else shlex.quote(value)


def _exec_position(command: Sequence[Word]) -> int:
    """Return where the program's own word begins: assignments stand before `exec`."""
    for word in command:
        if not ASSIGNMENT.match(word.text):
            return word.start
    return command[-1].end


def _is_redirection(operator: str) -> bool:
    return operator[0] in "<>" or operator.startswith("&>")


def _operator_end(line: str, start: int) -> int:
    end = start + 1
    while end < len(line) and line[start:end] + line[end] in ("&&", "||", ";;", ">>", "<<", "<&", ">&", "<>", ">|", "&>"):
        end += 1
    return end


def _word_end(line: str, start: int) -> int:
    position, quote = start, ""
    while position < len(line):
        character = line[position]
        if character == "\\" and quote != "'":
            position += 2
            continue
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"`":
            quote = character
        elif character.isspace() or character in ";&|()<>":
            if not (character == "(" and line[position - 1] == "$"):
                break
            position = _parenthesis_end(line, position)
            continue
        position += 1
    if quote:
        raise ProcfileError(f"a quote is left open in {line!r}; close it.")
    return min(position, len(line))


def _parenthesis_end(line: str, start: int) -> int:
    """Return where `$(...)` ends."""
    depth = 0
    for position in range(start, len(line)):
        depth += {"(": 1, ")": -1}.get(line[position], 0)
        if not depth:
            return position + 1
    raise ProcfileError(f"a parenthesis is left open in {line!r}; close it.")
