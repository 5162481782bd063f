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

    An answer may be a function without arguments that computes it: what it raises is reported,
    and of an assert the message alone.
    `hints[name]` maps a typical wrong value to the hint for it; "" is for all others. Integers
    must be equal (True and False count where 1 or 0 is expected), floats agree to 1 %.
    """
    if unanswered(answers):
        return Report(subject, answered=False)
    if not isinstance(answers, dict):
        text = f"got {shown(answers)}, not a dict of named numbers"
        return Report(subject, findings=[Finding("broken", text)])
    answers = {name: _computed(answer) for name, answer in answers.items()}
    strange = [name for name in answers if name not in expected]
    if all(unanswered(answers.get(name)) for name in expected) and not strange:
        return Report(subject, answered=False)
    report = Report(subject)
    for name, right in expected.items():
        got = answers.get(name)
        number = plain(got)
        if isinstance(number, bool):
            number = int(number) if right in (0, 1) else None
        if unanswered(got):
            hint = f"there is an answer called {strange[0]!r}" if strange else ""
            report.findings.append(Finding("broken", "not answered yet", name, hint=hint))
        elif isinstance(got, Exception):
            report.findings.append(Finding("broken", raised(got), name))
        elif number is None:
            found = Finding("broken", f"{shown(got)} is not a number", name, hint=_form(got))
            report.findings.append(found)
        elif not abs(number - right) <= (0.01 * abs(right) if isinstance(right, float) else 0):
            hint = _typical(number, right, (hints or {}).get(name, {}))
            report.findings.append(Finding("broken", f"{number} is not right", name, hint=hint))
    return report


def _computed(answer: object) -> object:
    if not callable(answer):
        return answer
    try:
        return answer()
    except NotImplementedError:
        return ...
    except Exception as error:
        return error


def _form(got: object) -> str:
    """Why an answer that looks like a number is none."""
    if isinstance(got, str):
        return "this is text: leave out the quotes, commas and units"
    if isinstance(got, tuple):
        return "a comma makes a tuple: write 294_912 or 294912"
    return "write 1 or 0" if isinstance(got, bool) else ""


def _typical(got: float, right: float, hints: dict) -> str:
    """The hint for the nearest known mistake; else what is wrong with any number."""
    slack = 0.01 if isinstance(right, float) else 0
    near = [k for k in hints if k != "" and abs(got - k) <= slack * abs(k)]
    if near:
        return hints[min(near, key=lambda k: abs(got - k))]
    if right and abs(got / right + 1) < 1e-3:
        return "the right number with the wrong sign"
    units = ((2, "percent or a share?"), (3, "thousands? (a dot is the decimal point)"))
    for power, question in (*units, (6, "millions?")):
        for factor, word in ((10**power, "large"), (10**-power, "small")):
            if right and abs(got / right / factor - 1) < 1e-3:
                return f"{10**power:,} times too {word}: {question}"
    if isinstance(right, float) and abs(got - right) <= 0.05 * abs(right):
        return "nearly: give one more digit"
    return hints.get("", "")


def function(
    subject: str,
    answer: Callable,
    reference: Callable,
    cases: list[tuple],
    hints: dict[str, Callable] | None = None,
) -> Report:
    """Compare a reader's function with a reference on several argument tuples.

    Floats agree to 0.01 %. `hints` maps a hint to the wrong function that it is for: it is given
    to an answer that does the same as that function in every case. `...` as the result of the
    first case means "not answered yet".
    """
    if unanswered(answer):
        return Report(subject, answered=False)
    for case in cases:
        where = f"with arguments ({', '.join(map(shown, case))})"
        right = reference(*copy.deepcopy(case))
        try:
            got = answer(*copy.deepcopy(case))
            same = _equal(got, right)
        except NotImplementedError:
            return Report(subject, answered=False)
        except Exception as error:
            return Report(subject, findings=[Finding("broken", raised(error), where)])
        if got is ... and case is cases[0]:
            return Report(subject, answered=False)
        if not same:
            hint = _known_mistake(answer, hints or {}, cases) or _difference(got, right)
            found = Finding("broken", f"returns {shown(got)}", where, shown(right), hint)
            return Report(subject, findings=[found])
    return Report(subject)


def _known_mistake(answer: Callable, hints: dict[str, Callable], cases: list[tuple]) -> str:
    for hint, wrong in hints.items():
        with suppress(Exception):  # in a later case the answer may fail
            if all(_equal(answer(*copy.deepcopy(c)), wrong(*copy.deepcopy(c))) for c in cases):
                return hint
    return ""


def _difference(got: object, right: object) -> str:
    """What any wrong result may have in common."""
    if got is None:
        return "it gives nothing back: does every way through it end with `return`?"
    if isinstance(got, Tensor) and isinstance(right, Tensor):
        if got.shape != right.shape:
            said = f"shape {tuple(got.shape)}, not {tuple(right.shape)}"
            if max(got.dim(), right.dim()) <= 2:
                said += "; `*` multiplies element by element, `@` is the matrix product"
            return said
        share = (got / right)[right != 0]
        if share.numel() and close(got, right * share.flatten()[0]):
            return f"{share.flatten()[0]:.3g} times what it should be"
    number = plain(got)
    if number is not None and plain(right) is not None and f"{number:.6g}" == f"{right:.6g}":
        return f"they differ by {abs(number - right):.1e}"
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
        slack = 1e-4 * abs(right) + 1e-9 if isinstance(right, float) else 0
        return type(number) in (int, float) and abs(number - right) <= slack
    return type(got) is type(right) and got == right


def plain(value: object) -> bool | int | float | None:
    """`value` as Python's own number, also from a one-element array or tensor; else None."""
    try:
        if isinstance(value, (bool, int)):
            return value if isinstance(value, bool) else int.__index__(value)
        if isinstance(value, float):
            return float.__float__(value)
        one = value.numel() if isinstance(value, Tensor) else getattr(value, "size", 1)
        if hasattr(value, "item") and one == 1:
            number = value.item()
            return number if type(number) in (bool, int, float) else None
        if isinstance(value, Real):
            return float(value)
    except Exception:  # a class of the reader's that breaks when it is asked
        return None
    return None


def close(a: Tensor, b: Tensor) -> bool:
    """Equal shapes, and values equal up to rounding relative to the largest, in any precision."""
    if a is None or b is None or a.shape != b.shape:
        return False
    a, b = (t.detach().cpu().double() for t in (a, b))
    largest = b.abs().max().item() if b.numel() else 0
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5 * max(1.0, largest))


def shown(value: object) -> str:
    """Short enough for one line of a report."""
    if isinstance(value, Tensor) and value.numel() > 6:
        return f"a tensor of shape {tuple(value.shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


def raised(error: Exception) -> str:
    """The first line of an error; a failed assert of a check says itself what is wrong."""
    first = (str(error).strip() or "no message").splitlines()[0][:200]
    return first if isinstance(error, AssertionError) else f"raises {type(error).__name__}: {first}"
