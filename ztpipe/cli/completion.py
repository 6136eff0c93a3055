"""``ztpipe completion``: what bash, zsh and fish need to complete all programs.

The script is a table of all commands, made once: no Python starts at a keystroke. IDs of networks, members and moons
are asked of the running node by zerotier-cli, which is quick; without a node there are none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import click

#: A word, and what it is; the empty word stands for files, one that begins with @ for what a node knows.
Candidate = tuple[str, str]

FILES: Final[Candidate] = ("", "")
JOINED, NETWORKS, MEMBERS, MOONS = ("@joined", ""), ("@networks", ""), ("@members", ""), ("@moons", "")
_OF_ARGUMENTS: Final = {"nwid": NETWORKS, "member": MEMBERS, "members": MEMBERS, "address": MEMBERS}


@dataclass(slots=True)
class Entry:
    """A command: its options, those that take a value, and what may come at each place; the last place may repeat."""

    options: list[Candidate] = field(default_factory=list)
    valued: list[str] = field(default_factory=list)
    places: list[list[Candidate]] = field(default_factory=list)
    repeats: bool = False


Table = dict[str, Entry]  # by the words of the command, e.g. "ztpipe controller members"


@click.command(name="completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print what SHELL needs to complete ztpipe, zerotier-cli, zerotier-one and zerotier-idtool.

    \b
    bash: ztpipe completion bash > /etc/bash_completion.d/ztpipe
    zsh:  ztpipe completion zsh > /usr/local/share/zsh/site-functions/_ztpipe
    fish: ztpipe completion fish > /etc/fish/completions/ztpipe.fish
          and the same as zerotier-cli.fish, zerotier-one.fish and zerotier-idtool.fish beside it
    """
    from ztpipe.__main__ import main
    from ztpipe.cli.completion_scripts import SCRIPTS

    click.echo(SCRIPTS[shell](table(main)), nl=False)


def table(main: click.Command) -> Table:
    """All programs."""
    return {**dict(_walk("ztpipe", main, click.Context(main, **main.context_settings))), **_fixed()}


def _walk(path: str, command: click.Command, ctx: click.Context) -> Iterator[tuple[str, Entry]]:
    entry = Entry()
    for parameter in command.get_params(ctx):
        if isinstance(parameter, click.Option):
            words = [*parameter.opts, *parameter.secondary_opts]
            entry.options += [(word, _first_line(parameter.help or "")) for word in words]
            entry.valued += [] if parameter.is_flag or parameter.count else words
        else:
            entry.places.append(_of_argument(parameter))
            entry.repeats = entry.repeats or parameter.nargs == -1
    if isinstance(command, click.Group):
        names = command.list_commands(ctx)
        children = [(name, child) for name in names if (child := command.get_command(ctx, name)) and not child.hidden]
        entry.places = [[(name, child.get_short_help_str(80)) for name, child in children]]
        for name, child in children:
            yield from _walk(f"{path} {name}", child, click.Context(child, info_name=name, parent=ctx))
    yield path, entry


def _of_argument(parameter: click.Parameter) -> list[Candidate]:
    if isinstance(parameter.type, click.Choice):
        return [(str(choice), "") for choice in parameter.type.choices]
    known = _OF_ARGUMENTS.get(parameter.name or "")
    if known:
        return [known]
    return [FILES] if isinstance(parameter.type, click.Path | click.File) else []


def _first_line(text: str) -> str:
    return text.split("\n", maxsplit=1)[0].removesuffix(".")


def _fixed() -> Table:
    """The programs that are no click commands; their words as in service §1 to §3."""
    from ztpipe.cli import idtool, one, zerotier_cli

    cli = "zerotier-cli"
    keys = ("allowManaged", "allowGlobal", "allowDefault", "allowDNS")
    settings = [(f"{key}={value}", "") for key in keys for value in "01"]
    properties = ("ip", "ip4", "ip6", "ip6plane", "ip6prefix", "name", "status", "mac", "mtu", "type", "portDeviceName")
    places: dict[str, list[list[Candidate]]] = {
        "leave": [[JOINED]],
        "set": [[JOINED], settings],
        "get": [[JOINED], [(name, "") for name in properties]],
        "deorbit": [[MOONS]],
    }
    commands = list(_of_usage(zerotier_cli.USAGE, "Commands:"))
    made = {
        cli: Entry(list(_of_usage(zerotier_cli.USAGE, "Switches:")), [], [commands]),
        "zerotier-one": Entry(list(_of_usage(one.USAGE, "Switches:")), ["-q", "-i"], [[FILES]]),
        "zerotier-idtool": Entry([], [], [[(name, "") for name, _ in _of_usage(idtool.USAGE, "Commands:")]]),
    }
    for name, _ in commands:
        made[f"{cli} {name}"] = Entry(places=places.get(name, []))
    for name, _ in made["zerotier-idtool"].places[0]:
        made[f"zerotier-idtool {name}"] = Entry(places=[[FILES]], repeats=True)
    return made


def _of_usage(usage: str, heading: str) -> Iterator[Candidate]:
    """The first word of each line below a heading of a usage text, and what follows the gap."""
    _, _, rest = usage.partition(f"{heading}\n")
    for line in rest.partition("\n\n")[0].splitlines():
        words, _, text = line.strip().partition("  ")
        word = words.split()[0].partition("<")[0]
        if word:
            yield word, text.strip().replace("{program}", "zerotier-one")


def at_place(entry: Entry, place: int) -> Sequence[Candidate]:
    """What may come at a place, from 0."""
    if place >= len(entry.places) and not entry.repeats:
        return []
    return entry.places[min(place, len(entry.places) - 1)] if entry.places else []
