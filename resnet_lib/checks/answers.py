"""Findings and reports, and the checks of numbers and of plain functions."""

import copy
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from numbers import Real

import torch
from torch import Tensor

GRADES = ("broken", "wasteful", "known variant")


@dataclass(frozen=True)
class Finding:
    """One difference. `grade` is one of `GRADES`."""

    grade: str
    what: str
    where: str = ""
    expected: str = ""
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.grade}: {f'{self.where}: ' if self.where else ''}{self.what}"
        text += f"\n    expected: {self.expected}" if self.expected else ""
        return text + (f"\n    hint: {self.hint}" if self.hint else "")


@dataclass
class Report:
    """The findings about one piece of work. `answered` is False while nothing was filled in."""

    subject: str
    answered: bool = True
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Answered, and nothing broken."""
        return self.answered and not any(f.grade == "broken" for f in self.findings)

    def __repr__(self) -> str:
        if not self.answered:
            return f"{self.subject}: not answered yet"
        head = f"{self.subject}: {'correct' if self.ok else 'not yet'}"
        return "\n".join([head, *(f"  {f}" for f in self.findings)])


def unanswered(answer) -> bool:
    return answer is None or answer is ...


def numbers(subject: str, answers: dict, expected: dict, hints: dict | None = None) -> Report:
    """Compare named numbers with the expected ones; `...` or None means "not answered yet".

    `hints[name]` maps a typical wrong value to the hint for it; "" is for all others. Integers
    must be equal, floats agree to 1 %.
    """
    if unanswered(answers):
        return Report(subject, answered=False)
    if not isinstance(answers, dict):
        text = f"got {shown(answers)}, not a dict of named numbers"
        return Report(subject, findings=[Finding("broken", text)])
    if all(unanswered(answers.get(name)) for name in expected):
        return Report(subject, answered=False)
    report = Report(subject)
    for name, right in expected.items():
        got = answers.get(name)
        hint = (hints or {}).get(name, {})
        if unanswered(got):
            report.findings.append(Finding("broken", "not answered yet", name))
        elif (number := plain(got)) is None:
            report.findings.append(Finding("broken", f"{shown(got)} is not a number", name))
        elif not abs(number - right) <= (0.01 * abs(right) if isinstance(right, float) else 0):
            report.findings.append(
                Finding(
                    "broken",
                    f"{number} is not right",
                    name,
                    hint=hint.get(number) or _factor(number, right) or hint.get("", ""),
                )
            )
    return report


def _factor(got: float, right: float) -> str:
    """Wrong by a power of ten, or by the sign: most often a unit."""
    if right and abs(got / right + 1) < 1e-3:
        return "the right number with the wrong sign"
    for power, units in ((2, "percent or a share?"), (3, "thousands?"), (6, "millions?")):
        for factor, word in ((10**power, "large"), (10**-power, "small")):
            if right and abs(got / right / factor - 1) < 1e-3:
                return f"{10**power:,} times too {word}: {units}"
    return ""


def function(
    subject: str,
    answer: Callable,
    reference: Callable,
    cases: list[tuple],
    hints: dict[str, Callable] | None = None,
) -> Report:
    """Compare a reader's function with a reference on several argument tuples.

    `hints` maps a hint to the wrong function that it is for: it is given to an answer that does
    the same as that function in every case.
    """
    if unanswered(answer):
        return Report(subject, answered=False)
    report = Report(subject)
    for case in cases:
        where = f"with arguments {case}"
        right = reference(*copy.deepcopy(case))
        try:
            got = answer(*copy.deepcopy(case))
        except NotImplementedError:
            return Report(subject, answered=False)
        except Exception as error:
            report.findings.append(Finding("broken", raised(error), where))
            break
        if unanswered(got) and case is cases[0]:
            return Report(subject, answered=False)
        if not _equal(got, right):
            hint = _known_mistake(answer, hints or {}, cases)
            if got is None:
                hint = "does every branch end with `return`?"
            found = Finding("broken", f"returns {shown(got)}", where, f"{right}", hint)
            report.findings.append(found)
            break
    return report


def _known_mistake(answer: Callable, hints: dict[str, Callable], cases: list[tuple]) -> str:
    for hint, wrong in hints.items():
        with suppress(Exception):  # in a later case the answer may fail
            if all(_equal(answer(*copy.deepcopy(c)), wrong(*copy.deepcopy(c))) for c in cases):
                return hint
    return ""


def _equal(got: object, right: object) -> bool:
    """Equality that a reader's own class cannot decide; floats may differ in the last digits."""
    if isinstance(right, Tensor):
        return isinstance(got, Tensor) and close(got, right)
    if isinstance(right, (list, tuple)):
        same = isinstance(got, (list, tuple)) and len(got) == len(right)
        return same and all(_equal(a, b) for a, b in zip(got, right, strict=True))
    if isinstance(right, Real) and not isinstance(right, bool):
        number = plain(got)
        slack = 1e-6 * max(1.0, abs(right)) if isinstance(right, float) else 0
        return number is not None and abs(number - right) <= slack
    return type(got) is type(right) and got == right


def plain(value: object) -> int | float | None:
    """`value` as a plain int or float, also from NumPy or a one-element tensor; else None."""
    if isinstance(value, bool):
        return None
    try:
        if isinstance(value, int):
            return int.__index__(value)
        if isinstance(value, float):
            return float.__float__(value)
        if isinstance(value, (Tensor, Real)) and getattr(value, "ndim", 0) == 0:
            number = value.item() if hasattr(value, "item") else float(value)
            return number if type(number) in (int, float) else None
    except Exception:  # a class of the reader's that breaks when it is asked
        return None
    return None


def close(a: Tensor, b: Tensor) -> bool:
    """Equal shapes, and values equal up to rounding relative to the largest."""
    if a is None or b is None or a.shape != b.shape:
        return False
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5 * max(1.0, b.abs().max().item()))


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def raised(error: Exception) -> str:
    first = (str(error).strip() or "no message").splitlines()[0]
    return f"raises {type(error).__name__}: {first[:200]}"
