"""The scripts of ``ztpipe completion``: the table of commands in the language of each shell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from ztpipe.cli.completion import Candidate, Table, at_place

_PROGRAMS: Final = "ztpipe zerotier-cli zerotier-one zerotier-idtool"

#: How a node is asked, the same in all three shells. $network is the last word that looks like one.
_ASK: Final = {
    "@joined": "zerotier-cli listnetworks 2>/dev/null | grep -oE '^200 listnetworks [0-9a-f]{16}' | cut -d' ' -f3",
    "@networks": "zerotier-cli /controller/network 2>/dev/null | grep -oE '[0-9a-f]{16}'",
    "@members": "zerotier-cli /controller/network/$network/member 2>/dev/null | grep -oE '[0-9a-f]{10}'",
    "@moons": "zerotier-cli /moon 2>/dev/null | grep -oE '\"id\": *\"[0-9a-f]+\"' | grep -oE '[0-9a-f]{16}'",
}


def _quoted(text: str) -> str:
    """For all three shells; descriptions lose their quotes and backslashes."""
    return "'" + text.replace("\\", "").replace("'", "’") + "'"


def _lines(candidates: list[Candidate] | tuple[Candidate, ...]) -> Iterator[str]:
    """Words with descriptions, for printf '%s\\t%s\\n'."""
    for word, text in candidates:
        yield f"{_quoted(word)} {_quoted(text)}"


def _cases(table: Table) -> Iterator[tuple[str, list[Candidate]]]:
    """`path|place` or `path|-` for options, and its candidates."""
    for path, entry in table.items():
        if entry.options:
            yield f"{path}|-", entry.options
        for place in range(len(entry.places)):
            found = list(at_place(entry, place))
            if found:
                yield f"{path}|{place}", found


def _shell_words(table: Table) -> str:
    """A function of bash and zsh: prints the candidates of a path and a place."""
    lines = ["__ztpipe_words() {", '    case "$1|$2" in']
    for key, candidates in _cases(table):
        lines.append(f"    {_quoted(key)})")
        asked = [word for word, _ in candidates if word in _ASK]
        plain = [candidate for candidate in candidates if candidate[0] not in _ASK]
        lines += [f"        {_ASK[word]}" for word in asked]
        if plain:
            lines.append("        printf '%s\\t%s\\n' " + " ".join(_lines(plain)))
        lines.append("        ;;")
    return "\n".join([*lines, "    esac", "}"])


def _matching(name: str, keys: list[str]) -> str:
    """A function of bash and zsh: whether its argument is one of `keys`."""
    pattern = "|".join(map(_quoted, keys))
    return f'{name}() {{\n    case "$1" in\n    {pattern}) return 0 ;;\n    esac\n    return 1\n}}'


def _valued(table: Table) -> list[str]:
    return [f"{path} {option}" for path, entry in table.items() for option in entry.valued]


def _last_places(table: Table) -> list[tuple[str, int]]:
    """Commands whose last place repeats, and that place."""
    return [(path, len(entry.places) - 1) for path, entry in table.items() if entry.repeats and entry.places]


_WALK: Final = """\
# Sets path, place and network from the words before the cursor.
__ztpipe_walk() {
    path=$1 place=0 network= skip=
    shift
    local word
    for word in "$@"; do
        if [[ -n $skip ]]; then
            skip=
        elif [[ $word == -* ]]; then
            if __ztpipe_valued "$path $word"; then skip=1; fi
        elif __ztpipe_known "$path $word"; then
            path="$path $word" place=0
        else
            if [[ $word =~ ^[0-9a-f]{16}$ ]]; then network=$word; fi
            place=$((place + 1))
        fi
    done
    case "$path" in
%s
    esac
}"""

_BASH: Final = """\
_ztpipe() {
    local cur=${COMP_WORDS[COMP_CWORD]} path place network skip line program=${COMP_WORDS[0]##*/}
    __ztpipe_walk "$program" "${COMP_WORDS[@]:1:COMP_CWORD-1}"
    if [[ $cur == -* ]]; then place=-; fi
    COMPREPLY=()
    if [[ -n $skip ]]; then
        compopt -o default 2>/dev/null
        return
    fi
    while IFS= read -r line; do
        line=${line%%$'\\t'*}
        if [[ -z $line ]]; then
            compopt -o default 2>/dev/null
        elif [[ $line == "$cur"* ]]; then
            COMPREPLY+=("$line")
        fi
    done < <(__ztpipe_words "$path" "$place")
}
"""

_ZSH: Final = """\
_ztpipe() {
    local path place network skip line cur=${words[CURRENT]} program=${words[1]:t}
    local -a found
    __ztpipe_walk "$program" "${(@)words[2,CURRENT-1]}"
    if [[ $cur == -* ]]; then place=-; fi
    if [[ -n $skip ]]; then
        _files
        return
    fi
    for line in "${(@f)$(__ztpipe_words "$path" "$place")}"; do
        if [[ -z ${line%%$'\\t'*} ]]; then
            [[ -n $line ]] && _files
        else
            found+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}")
        fi
    done
    (( ${#found} )) && _describe -V 'command' found
}
"""

_ZSH_START: Final = """\
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _ztpipe "$@"
else
"""


def _common(table: Table) -> list[str]:
    case = "    {}) if ((place > {})); then place={}; fi ;;"
    last = "\n".join(case.format(_quoted(path), at, at) for path, at in _last_places(table))
    return [
        _shell_words(table),
        _matching("__ztpipe_known", list(table)),
        _matching("__ztpipe_valued", _valued(table)),
        _WALK % last,
    ]


def bash(table: Table) -> str:
    """For bash 4 and newer."""
    return "\n".join([*_common(table), f"{_BASH}complete -F _ztpipe {_PROGRAMS}", ""])


def zsh(table: Table) -> str:
    """A file in $fpath, or to be sourced after compinit; `path` is special in zsh and gets another name."""
    head = f"#compdef {_PROGRAMS}\n"
    text = "\n".join([*_common(table), _ZSH])
    for before, after in (("$path", "$at"), ("local path ", "local at "), ("path=", "at=")):
        text = text.replace(before, after)
    return f"{head}{text}{_ZSH_START}    compdef _ztpipe {_PROGRAMS}\nfi\n"


def fish(table: Table) -> str:
    """For fish 3 and newer."""
    lines = ["function __ztpipe_words", "    switch $argv[1]"]
    for key, candidates in _cases(table):
        lines.append(f"        case {_quoted(key)}")
        for word, text in candidates:
            if word in _ASK:
                lines.append(f"            {_ASK[word]}")
            elif word:
                lines.append(f"            printf '%s\\t%s\\n' {_quoted(word)} {_quoted(text)}")
            else:
                lines.append("            __fish_complete_path (commandline -ct)")
    lines += ["    end", "end", "function __ztpipe_complete"]
    lines += ["    set -l words (commandline -opc)", "    set -l at (string replace -r '.*/' '' -- $words[1])"]
    lines += ["    set -l place 0", "    set -l skip 0", "    set -l network"]
    lines += ["    for word in $words[2..-1]", "        if test $skip = 1", "            set skip 0"]
    lines += ["        else if string match -q -- '-*' $word"]
    lines += [f'            contains -- "$at $word" {" ".join(map(_quoted, _valued(table)))}; and set skip 1']
    lines += [f'        else if contains -- "$at $word" {" ".join(map(_quoted, table))}']
    lines += ['            set at "$at $word"', "            set place 0", "        else"]
    lines += ["            string match -qr '^[0-9a-f]{16}$' -- $word; and set network $word"]
    lines += ["            set place (math $place + 1)", "        end", "    end"]
    lines += ["    if test $skip = 1", "        __fish_complete_path (commandline -ct)", "        return", "    end"]
    for path, last in _last_places(table):
        lines.append(f'    test "$at" = {_quoted(path)} -a $place -gt {last}; and set place {last}')
    lines += ["    string match -q -- '-*' (commandline -ct); and set place -"]
    lines += ['    __ztpipe_words "$at|$place" $network[1]', "end"]
    lines += [f"for program in {_PROGRAMS}", "    complete -c $program -f -a '(__ztpipe_complete)'", "end", ""]
    return "\n".join(lines).replace("/$network/", "/$argv[2]/")


SCRIPTS: Final[dict[str, Callable[[Table], str]]] = {"bash": bash, "zsh": zsh, "fish": fish}
