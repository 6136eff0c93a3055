"""Evaluation of a compiled rule list over a frame (vl2 §4.3).

    rules = compile_rules(config.rules)        # once per configuration or capability
    result = rules.evaluate(Situation(...))    # once per frame

The caller (`node/filter.py`) decides what the verdicts of base rules and capabilities add up to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from ztpipe.rules.match import Answer, Situation, Test, compile_match
from ztpipe.wire.rule import Rule, RuleType

__all__ = ["CompiledRules", "Copy", "Evaluation", "Situation", "Verdict", "compile_rules"]

_FIRST_MATCH: Final = 16
_TARGETED: Final = frozenset({RuleType.ACTION_TEE, RuleType.ACTION_WATCH, RuleType.ACTION_REDIRECT})
_ACCEPTING: Final = frozenset({RuleType.ACTION_ACCEPT, RuleType.ACTION_PRIORITY})


class Verdict(Enum):
    """How a rule list ended."""

    NO_MATCH = auto()
    DROP = auto()
    ACCEPT = auto()
    SUPER_ACCEPT = auto()
    REDIRECT = auto()


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of the frame that TEE or WATCH asks for: to whom, and how many bytes of the payload."""

    target: int
    length: int
    watch: bool


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcome of one rule list; `redirect` is the new destination if the verdict is REDIRECT, else 0.

    `naming`: index of the rule that names us as its target, if the verdict is SUPER_ACCEPT; else -1.
    """

    verdict: Verdict
    redirect: int = 0
    copy: Copy | None = None
    naming: int = field(default=-1, compare=False)


@dataclass(frozen=True, slots=True)
class _Match:
    test: Test
    negate: bool
    or_: bool


@dataclass(frozen=True, slots=True)
class _Action:
    type: int
    target: int
    length: int


class CompiledRules:
    """A rule list ready to be evaluated; immutable."""

    __slots__ = ("_steps", "accepts_everything", "copies")

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._steps = tuple(_compile(rule) for rule in rules)
        self.accepts_everything = self._first_action_accepts()
        """True if every frame is plainly accepted whatever it is, by the form of the list alone."""
        self.copies = any(isinstance(step, _Action) and step.type in _TARGETED for step in self._steps)
        """True if some rule may copy or redirect a frame."""

    def _first_action_accepts(self) -> bool:
        first = self._steps[0] if self._steps else None
        return isinstance(first, _Action) and first.type in _ACCEPTING

    def evaluate(self, situation: Situation) -> Evaluation:
        """Run the list over one frame; `situation.super_accept` is used as scratch and left changed."""
        return _Run(situation).over(self._steps)


def compile_rules(rules: Iterable[Rule]) -> CompiledRules:
    """Compile parsed rules once, so that evaluation does not look at their encoding again."""
    return CompiledRules(rules)


def _compile(rule: Rule) -> _Match | _Action:
    kind = int(rule.type)
    if kind >= _FIRST_MATCH:
        return _Match(compile_match(rule), rule.negate, rule.or_)
    if kind in _TARGETED and len(rule.value) == 14:
        return _Action(kind, int.from_bytes(rule.value[:8], "big"), int.from_bytes(rule.value[12:], "big"))
    return _Action(kind, 0, 0)


class _Run:
    """The moving parts of one evaluation: whether the current set matches, a pending skip of DROP, the copy target."""

    __slots__ = ("copy", "matches", "naming", "situation", "skip_drop")

    def __init__(self, situation: Situation) -> None:
        self.situation = situation
        situation.super_accept = False
        self.matches = True
        self.skip_drop = False
        self.copy: Copy | None = None
        self.naming = -1

    def over(self, steps: tuple[_Match | _Action, ...]) -> Evaluation:
        for index, step in enumerate(steps):
            if isinstance(step, _Match):
                self._match(step)
            elif self.matches:
                verdict = self._act(step)
                if verdict is Verdict.SUPER_ACCEPT:
                    naming = index if step.type in _TARGETED else self.naming
                    return Evaluation(verdict, 0, self.copy, naming)
                if verdict is not None:
                    return Evaluation(verdict, step.target if verdict is Verdict.REDIRECT else 0, self.copy)
            else:
                self._pass_by(index, step)
        return Evaluation(Verdict.NO_MATCH, 0, self.copy)

    def _match(self, step: _Match) -> None:
        if not self.matches and not step.or_:
            return
        answer = step.test(self.situation)
        if answer is Answer.HARD_YES_SKIP_DROP:
            self.skip_drop = True
        if answer is Answer.YES or answer is Answer.NO:
            result = (answer is Answer.YES) is not step.negate
        else:
            result = answer is not Answer.HARD_NO
        self.matches = self.matches or result if step.or_ else self.matches and result

    def _act(self, step: _Action) -> Verdict | None:
        """Perform an action whose set matched; None means: go on with the next set."""
        if step.type == RuleType.ACTION_DROP:
            if not self.skip_drop:
                return Verdict.DROP
            self.skip_drop = False
            return None
        if step.type == RuleType.ACTION_ACCEPT:
            return Verdict.SUPER_ACCEPT if self.situation.super_accept else Verdict.ACCEPT
        if step.type == RuleType.ACTION_PRIORITY:
            return Verdict.ACCEPT
        if step.type == RuleType.ACTION_BREAK:
            return Verdict.NO_MATCH
        return self._act_on_target(step) if step.type in _TARGETED else None

    def _act_on_target(self, step: _Action) -> Verdict | None:
        situation = self.situation
        if step.target == situation.zt_source:
            return None
        if step.target == situation.own_address:
            return Verdict.SUPER_ACCEPT if situation.inbound else None
        if step.target == situation.zt_dest:
            return None
        if step.type == RuleType.ACTION_REDIRECT:
            return Verdict.REDIRECT
        size = len(situation.frame.data)
        length = min(size, step.length) if step.length else size
        self.copy = Copy(step.target, length, step.type == RuleType.ACTION_WATCH)
        return None

    def _pass_by(self, index: int, step: _Action) -> None:
        """An action whose set did not match: being its target inbound makes a later ACCEPT a SUPER_ACCEPT."""
        situation = self.situation
        if situation.inbound and step.type in _TARGETED and step.target == situation.own_address:
            situation.super_accept = True
            self.naming = index
        self.matches = True
