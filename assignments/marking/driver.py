"""The program in the sandbox: runs the cells of a submission, then the probes of the marker.

Reads one JSON object from standard input:
    {"cells": [[label, source, seconds], ...], "patience": seconds,
     "probes": [[name, source, cases, seconds], ...]}
and writes JSON lines to standard output:
    ["begin"], ["cell", label, error], ["probe", name, number of the case, value],
    ["died", name, why], ["end"]
Standard library and torch only. Nothing in here is a secret: it holds no expected value, and
whatever it writes is taken for a claim of the submission's.
"""

import base64
import ctypes
import json
import os
import platform
import re
import signal
import struct
import sys
import time
import traceback

LONGEST = 20_000  # items of a list; characters of a text


# Memory that counts for no process, namespaces in which one may mount more of it, and the way to
# other cores: memfd_create, memfd_secret, shmget, unshare, clone3, sched_setaffinity; and clone,
# which may still fork.
CALLS = {
    "x86_64": (0xC000003E, (319, 447, 29, 272, 435, 203), 56),
    "aarch64": (0xC00000B7, (279, 447, 194, 97, 435, 122), 220),
}


class TooLong(BaseException):
    """A cell has used up its time. Not an Exception: `except Exception` lets it by."""


def _late(*_):
    raise TooLong


def plain(value, depth=0):
    """`value` as JSON, without asking a method of a student's class."""
    import torch

    if depth > 6:
        return {"strange": "nested too deep"}
    kind = type(value)
    if value is None or kind in (bool, str):
        return value[:LONGEST] if kind is str else value
    if kind is int:
        return value if value.bit_length() < 256 else {"strange": "a very large int"}
    if kind is float:
        return {"float": repr(value)}
    if value is ...:
        return {"unanswered": True}
    for base in (list, tuple):  # torch.Size and named tuples are tuples
        if issubclass(kind, base):
            items = base.__getitem__(value, slice(LONGEST))
            return {"list": [plain(v, depth + 1) for v in items], "tuple": base is tuple}
    if issubclass(kind, dict):
        pairs = list(dict.items(value))[:LONGEST]
        return {"dict": [[plain(k, depth + 1), plain(v, depth + 1)] for k, v in pairs]}
    if kind in (torch.Tensor, torch.nn.Parameter):
        flat = torch.Tensor.detach(value).cpu().contiguous()
        if flat.dtype in (torch.bfloat16, torch.float16):
            flat = flat.float()
        if flat.numel() > 2_000_000:
            return {"strange": f"a tensor of {flat.numel()} numbers"}
        raw = flat.numpy().tobytes()
        dtype = str(flat.dtype).removeprefix("torch.")
        data = base64.b64encode(raw).decode("ascii")
        return {"tensor": data, "dtype": dtype, "shape": list(flat.shape)}
    if kind.__module__ == "numpy" and hasattr(kind, "item") and getattr(value, "ndim", 1) == 0:
        return plain(value.item(), depth + 1)
    return {"strange": f"a {kind.__name__}"[:80]}


def said(error, kind=True):
    """An error in one line, with the line of the submission it comes from."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith("<")]
    where = f" ({frames[-1].filename.strip('<>')}, line {frames[-1].lineno})" if frames else ""
    try:
        text = str(error).strip()
    except Exception:  # a class of the student's whose __str__ is wrong
        text = ""
    first = (text or "no message").splitlines()[0][:200]
    return f"{type(error).__name__}: {first}{where}" if kind else f"{first}{where}"


def python(source):
    """The Python of a cell: lines for IPython alone are emptied, a cell of another language too."""
    lines = source.lstrip().split("\n")
    if re.match(r"%%(time|timeit|capture|prun)\b", lines[0]):
        lines[0] = ""
    elif lines[0].startswith("%%"):
        return ""
    try:
        compile("\n".join(lines), "<cell>", "exec")
        return "\n".join(lines)  # all of it is Python: a line may start with % inside brackets
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    return "\n".join(
        "" if re.match(r"\s*([%!]|\?\w|\w[\w.]*\?\s*$)", line) else line for line in lines
    )


def narrow():
    """Take from this process, and from all that it starts, the calls above: they "do not exist"."""
    if platform.machine() not in CALLS:
        return
    machine, calls, clone = CALLS[platform.machine()]
    refuse, allow = (6, 0, 0, 0x00050000 | 38), (6, 0, 0, 0x7FFF0000)
    # Each line: what to do, how many lines to pass over if so, if not, a number (see bpf(4)).
    lines = [(0x20, 0, 0, 4), (0x15, 1, 0, machine), refuse, (0x20, 0, 0, 0)]
    lines += [(0x35, 0, 1, 0x40000000), refuse]  # x32's numbers for the same calls
    for number in calls:
        lines += [(0x15, 0, 1, number), refuse]
    lines += [(0x15, 0, 3, clone), (0x20, 0, 0, 16), (0x45, 0, 1, 0x10000000), refuse, allow]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    program = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(code))
    prctl = ctypes.CDLL(None).prctl
    prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    prctl(22, 2, program, 0, 0)  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def main():
    narrow()
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # for `observe`
    program = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)

    def tell(*line):
        out.write(json.dumps(line) + "\n")
        out.flush()

    import torch

    torch.set_num_threads(1)
    if any(".optim" in source for _, source, *_ in program["probes"]):
        import torch._dynamo  # 2 s at the first optimizer: here, not in each probe
    tell("begin")
    answers = {"__name__": "__main__", "display": lambda *a, **k: None, "get_ipython": lambda: None}
    signal.signal(signal.SIGALRM, _late)
    signal.signal(signal.SIGPROF, _late)
    began = time.monotonic()
    for label, source, seconds in program["cells"]:
        if time.monotonic() - began > program.get("patience", 60):
            seconds = min(
                seconds, 2
            )  # a student's own experiments must not use up the probes' time
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                exec(compile(python(source), f"<{label}>", "exec"), answers)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except TooLong:
            tell("cell", label, f"took longer than {seconds:g} s")
        except SystemExit:
            tell("cell", label, "SystemExit: it ends the program; leave that out")
        except BaseException as error:
            tell("cell", label, said(error))
    for name, source, cases, seconds in program["probes"]:
        out.flush()
        # A process for each probe: what one question breaks, hangs or edits stays its own.
        child = os.fork()
        if child == 0:
            # Processor time, so that a busy machine costs nobody marks; for who sleeps, the clock.
            signal.setitimer(signal.ITIMER_PROF, seconds)
            signal.setitimer(signal.ITIMER_REAL, 3 * seconds)
            ask(tell, answers, name, source, cases)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            tell("died", name, how(status, seconds))
    tell("end")
    os._exit(0)


def ask(tell, answers, name, source, cases):
    space = {"__name__": "probe"}
    exec(compile(source, f"<probe {name}>", "exec"), space)
    for number, case in enumerate(cases):
        try:
            tell("probe", name, number, {"value": plain(space["probe"](answers, *case))})
        except TooLong:
            tell("died", name, "took too long")
            os._exit(0)
        except NotImplementedError:
            tell("probe", name, number, {"value": {"unanswered": True}})
        except KeyError as error:
            missing = error.args[0] if len(error.args) == 1 else None
            if (
                type(missing) is str
                and missing not in answers
                and repr(missing) in source.replace('"', "'")
            ):
                text = f"there is no {missing}: the cell that makes it is missing or stopped"
                tell("probe", name, number, {"error": ["NameError", text[:300]]})
            else:
                tell("probe", name, number, {"error": ["KeyError", said(error, kind=False)]})
        except BaseException as error:
            tell(
                "probe",
                name,
                number,
                {"error": [type(error).__name__[:60], said(error, kind=False)]},
            )


def how(status, seconds):
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return (
            "took too long"
            if number in (signal.SIGALRM, signal.SIGPROF)
            else f"was ended by signal {number}"
        )
    return f"ended by itself (exit status {os.WEXITSTATUS(status)})"


if __name__ == "__main__":
    main()
