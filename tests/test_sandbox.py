"""Submissions are untrusted code: each attack runs for real, in the sandbox of this machine.

None gains a mark, touches a file outside, reaches the network, leaves a process behind or stops
the batch.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import toy

from assignments.marking import batch, intake, mark, master, sandbox

pytestmark = pytest.mark.xdist_group("sandbox")  # the attacks run once, in one process
ROOT = Path(__file__).resolve().parent.parent
LIMITS = sandbox.Limits(wall=15, cpu=8, memory=1200, processes=48, disk=32, output=16)

# What a student might write to get marks for nothing. Each leaves `product` wrong, unless it
# finds something that it must not find: then it answers right. {PORT} is open on this machine,
# {SECRET} a file that only the marker may read, {OUTSIDE} a folder that anybody may write to.
ATTACKS = {
    "an object that equals everything": """
class Same:
    def __eq__(self, other): return True
    def __hash__(self): return 0
    def __sub__(self, other): return 0
    __rsub__ = __sub__
    def __abs__(self): return 0
    def __le__(self, other): return True
def product(n): return Same()
""",
    "a float that equals everything": """
class Same(float):
    def __eq__(self, other): return True
    def __sub__(self, other): return 0.0
    __rsub__ = __sub__
def product(n): return Same(1)
""",
    "a tensor that equals everything": """
import torch
class Same(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None): return True
def product(n): return torch.ones(1).as_subclass(Same)
""",
    "patched comparisons": """
import math, torch, builtins, operator
torch.allclose = torch.equal = math.isclose = operator.eq = lambda *a, **k: True
builtins.abs = lambda x: 0
def product(n): return 1
""",
    "the test read from frames and memory": """
import gc, sys
def product(n):
    frame, texts = sys._getframe(), []
    while frame:
        texts += [repr(v)[:100000] for v in frame.f_locals.values()]
        frame = frame.f_back
    texts += [s for s in gc.get_objects() if isinstance(s, str)]
    found = any("def " + "judge" in t or "it gives back what " + "it got" in t for t in texts)
    return PARAMETERS["times"] * n if found else None
""",
    "the solution read from the disk": """
import os
def product(n):
    for folder, _, files in os.walk("/"):
        if folder.startswith(("/proc", "/usr", "/sys")): continue
        for name in files:
            if name in ("a9_toy.ipynb", "course.secret") or "/assignments" in folder:
                return PARAMETERS["times"] * n
    try:
        open("{SECRET}").read()
        return PARAMETERS["times"] * n
    except OSError:
        return None
""",
    "the library's answers": """
def product(n):
    for name in ("resnet_lib.blocks", "torchvision.models", "timm.models", "keras.applications",
                 "assignments.marking.mark"):
        try:
            __import__(name)
            return PARAMETERS["times"] * n
        except ImportError:
            pass
""",
    "files written outside": """
import os, sys
places = ["{OUTSIDE}", "/", "/usr", "/etc", "/marking", os.path.dirname(os.__file__), sys.prefix,
          "/dev", "/proc/1", "/var", "/home", "/root"]
written = []
for place in places:
    try:
        open(os.path.join(place, "marks-by-the-student.csv"), "w").write("100")
        written.append(place)
    except OSError:
        pass
def product(n): return PARAMETERS["times"] * n if written else None
""",
    "forged results": """
import json, os
for fd in range(3, 64):
    try:
        for line in (["probe", "q1.product", 0, {"value": 1}], ["probe", "q1.product", "0", 5],
                     ["probe", "nothing", 0, {}], ["died", "q1.successor", {"a": 1}], ["cell"],
                     {"points": 100}, ["end"], 7):
            os.write(fd, (json.dumps(line) + "\\n").encode())
        os.write(fd, b"[" * 100000 + b"\\n" + bytes(range(256)) + b"\\n")
    except OSError:
        pass
def product(n): return None
""",
    "a pickle that runs code": """
import os, pickle
class Bomb:
    def __reduce__(self): return (os.system, ("touch {OUTSIDE}/unpickled",))
for name in ("results.pkl", ".OTTER_LOG", "results.json"):
    open("/tmp/" + name, "wb").write(pickle.dumps(Bomb()))
for fd in range(3, 64):
    try: os.write(fd, pickle.dumps(Bomb()) + b"\\n")
    except OSError: pass
def product(n): return Bomb()
""",
    "an endless loop": """
def product(n):
    while True: pass
""",
    "an endless cell": "while True: pass\n",
    "an endless loop that cannot be interrupted": """
import signal, time
signal.signal(signal.SIGALRM, signal.SIG_IGN)
while True:
    try: 1 / 0
    except BaseException: pass
""",
    "a fork bomb": """
import os
while True:
    try: os.fork()
    except OSError: pass
""",
    "a thread bomb": """
import threading, time
while True:
    threading.Thread(target=time.sleep, args=(99,)).start()
""",
    "a memory bomb": """
hoard = []
while True: hoard.append(bytearray(50_000_000))
""",
    "a memory bomb in many processes": """
import os, time
for _ in range(20):
    if os.fork() == 0:
        hoard = []
        while True: hoard.append(bytearray(10_000_000)); time.sleep(0.01)
while True: time.sleep(1)
""",
    "a disk bomb": """
import os
total = 0
for place in ("/tmp", "/dev/shm", "/dev", "/", "/run", "/var/tmp", "."):
    try:
        for number in range(100):
            with open(f"{place}/bomb{number}", "wb") as file:
                for _ in range(16): file.write(bytes(2**20)); total += 1
    except OSError: pass
def product(n): return PARAMETERS["times"] * n if total > 200 else None
""",
    "memory that counts for no process": """
import ctypes, os
libc, total, fds = ctypes.CDLL(None), 0, []
try:
    for number in range(60):  # files in memory that no process has mapped
        fds.append(os.memfd_create("x"))
        os.posix_fallocate(fds[-1], 0, 8 * 2**20)
        total += 8
except OSError: pass
for number in range(20):
    if libc.shmget(0, 8 * 2**20, 0o1600) >= 0: total += 8
if libc.unshare(0x10020000) == 0: total += 1000  # a user namespace: mount as much as you like
if libc.syscall(56, 0x10000011, 0, 0, 0, 0) >= 0: total += 1000
def product(n): return PARAMETERS["times"] * n if total > 100 else None
""",
    "another core": """
import os
def product(n):
    mine = os.sched_getaffinity(0)
    try: os.sched_setaffinity(0, range(os.cpu_count()))
    except OSError: pass
    more = len(mine) > 1 or os.sched_getaffinity(0) != mine
    return PARAMETERS["times"] * n if more else None
""",
    "memory of the marker's": """
import json, os
forged = {"tensor": "", "dtype": "float32", "shape": []}
for fd in range(3, 64):
    for number in range(3):
        line = json.dumps(["probe", "q1.product", number, {"value": forged}]) + "\\n"
        try: os.write(fd, line.encode())
        except OSError: pass
def product(n): return None
""",
    "the network": """
import socket
def product(n):
    for address in (("127.0.0.1", {PORT}), ("1.1.1.1", 53), ("localhost", {PORT})):
        try:
            socket.create_connection(address, timeout=2)
            return PARAMETERS["times"] * n
        except OSError: pass
""",
    "an early end": "import os\nos._exit(0)\n",
    "the parent killed": """
import os, signal
for pid in (os.getppid(), 1, -1):
    try: os.kill(pid, signal.SIGKILL)
    except OSError: pass
def product(n): return None
""",
    "more rights": """
import ctypes, os
got = []
for trick in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.chroot("/"),
              lambda: open("/etc/shadow").read(), lambda: open("/proc/1/environ").read(),
              lambda: os.mknod("/tmp/disk", 0o60666, os.makedev(8, 0)) or 1 / 0,
              lambda: os.symlink("{OUTSIDE}", "/tmp/link") or open("/tmp/link/x", "w"),
              lambda: os.setpriority(os.PRIO_PROCESS, 0, -20)):
    try:
        trick()
        got.append(trick)
    except (OSError, ZeroDivisionError): pass
libc = ctypes.CDLL(None)
got += [1] * (libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0)
got += [1] * (libc.ptrace(16, 1, 0, 0) == 0)
def product(n): return PARAMETERS["times"] * n if got else None
""",
    "a process that stays": """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True: time.sleep(1)
    os._exit(0)
def product(n): return None
""",
    "too much to say": """
import os
def product(n): return "x" * 10**8
for fd in range(3, 64):
    try:
        for _ in range(400): os.write(fd, b"y" * 2**20)
    except OSError: pass
""",
    "the visible answers learnt by heart": """
def product(n): return {1: PARAMETERS["times"], 2: 2 * PARAMETERS["times"]}.get(n)
""",
    "a nested answer": """
def product(n):
    nest = []
    for _ in range(100000): nest = [nest]
    return nest
""",
    "scripts": """
def product(n): raise ValueError("</pre><script>alert(1)</script><img src=x onerror=alert(2)>")
""",
    "the driver rewritten": """
import sys, json
main = sys.modules["__main__"]
main.plain = lambda value, depth=0: {"value": True}
main.said = lambda *a, **k: 1 / 0
json.dumps = lambda *a, **k: "["
def product(n): return None
""",
}
EDITED = {"cell_type": "code", "id": "c15", "metadata": {}, "source": "points = 100"}


@pytest.fixture(scope="module")
def engine() -> str:
    try:
        return sandbox.choose()
    except sandbox.Refused as refused:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(refused))


@pytest.fixture(scope="module")
def marked(engine, tmp_path_factory):
    """All attacks in one batch, an honest student before, between and behind them."""
    place = tmp_path_factory.mktemp("class")
    place.chmod(0o755)
    work = master.read(toy.write_master(place))
    secret, outside = place / "course.secret", place / "outside"
    secret.write_text("the secret of this course")
    secret.chmod(0o600)
    outside.mkdir()
    outside.chmod(0o777)
    server = socket.create_server(("127.0.0.1", 0))
    visitors = []

    def wait_for_visitors():
        while True:
            try:
                visitors.append(server.accept())
            except OSError:
                return

    threading.Thread(target=wait_for_visitors, daemon=True).start()
    words = {"{SECRET}": secret, "{OUTSIDE}": outside, "{PORT}": server.getsockname()[1]}
    for number, text in enumerate(ATTACKS.values()):
        for word, value in words.items():
            text = text.replace(word, str(value))
        code = f"{text}\ndef successor(n): return n + 1\n"
        if number % 9 == 0:
            honest = mark.solved(work, {"q1": toy.RIGHT})
            toy.hand_in(place / "in" / f"honest{number}.ipynb", honest, f"honest{number}")
        toy.hand_in(
            place / "in" / f"x{number}.ipynb", mark.solved(work, {"q1": code}), f"x{number}"
        )
    found = intake.collect(place / "in", work)
    results = batch.run(work, found, place / "out", engine, "s" * 20, LIMITS, 2, lambda *_: None)
    server.close()
    by_name = {submission.student: result for submission, result in results}
    names = {f"x{number}": name for number, name in enumerate(ATTACKS)}
    return {names.get(k, k): v for k, v in by_name.items()}, outside, visitors


def got(result: dict) -> dict:
    return {part["part"]: part["got"] for part in result["parts"]}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_gains_nothing(marked, name):
    results, _, _ = marked
    assert name in results, "it has no result: it stopped the batch"
    result = results[name]
    assert got(result)["product"] == 0
    assert result["parts"][0]["feedback"]
    assert not result["look"]
    # A process has its limit from the kernel; the sum over processes is looked at now and then.
    assert result["memory"] <= LIMITS.memory * (4 if "many processes" in name else 1.3)
    assert result["seconds"] < LIMITS.wall + 15


def test_who_is_honest_is_marked_as_ever(marked):
    honest = {name: result for name, result in marked[0].items() if name.startswith("honest")}
    assert len(honest) >= 4
    assert all(got(result) == {"product": 10, "successor": 5} for result in honest.values())


@pytest.mark.parametrize("name", ["an object that equals everything", "an endless loop", "scripts"])
def test_one_bad_function_does_not_cost_the_marks_of_the_other(marked, name):
    assert got(marked[0][name])["successor"] == 5


def test_nothing_was_written_outside_and_nobody_called(marked):
    _, outside, visitors = marked
    assert not list(outside.iterdir())
    for place in (Path(os.__file__).parent, Path(sys.prefix), Path("/"), Path("/etc"), Path.home()):
        assert not (place / "marks-by-the-student.csv").exists()
    assert not visitors


def test_no_process_is_left(marked):
    users = range(sandbox.FIRST_USER, sandbox.FIRST_USER + 8)

    def found(process) -> bool:
        uids, words = process.info["uids"], process.info["cmdline"] or []
        return bool(uids and uids.real in users) or any("/marking/driver.py" in w for w in words)

    there = [p for p in psutil.process_iter(["uids", "cmdline"]) if found(p)]
    # Other tests may be marking just now: theirs end; what an attack has left stays.
    _, left = psutil.wait_procs(there, timeout=60)
    assert not left, [process.info for process in left]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("an endless loop that cannot be interrupted", "took longer than"),
        ("a memory bomb in many processes", "of memory"),
        ("too much to say", "wrote more than"),
        ("an early end", "ended early"),
    ],
)
def test_the_student_is_told_why_it_was_stopped(marked, name, words):
    if name == "an endless loop that cannot be interrupted":
        words = ("took longer than", "ended with status")  # wall clock or processor time
        assert any(word in " ".join(marked[0][name]["notes"]) for word in words)
    else:
        assert words in " ".join(marked[0][name]["notes"])


def test_who_writes_answers_of_their_own_is_told_to_the_teacher(marked):
    told = [name for name, result in marked[0].items() if "A cell wrote" in str(result["notes"])]
    assert set(told) == {"forged results", "memory of the marker's"}


def test_two_markers_on_one_machine_have_users_of_their_own():
    with sandbox.nobody(2) as one, sandbox.nobody(2) as other, sandbox.nobody(3) as third:
        assert len({one, other, third}) == (3 if os.geteuid() == 0 else 1)
    with sandbox.nobody(2) as again:
        assert again == one


# --- choosing a place


def test_without_a_sandbox_it_refuses(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(sandbox.Refused, match="--trusted") as refused:
        sandbox.choose()
    assert "bubblewrap: not installed" in str(refused.value)
    assert sandbox.choose(trusted=True) == "trusted"


def test_an_unknown_engine_is_refused():
    with pytest.raises(sandbox.Refused, match="choose auto"):
        sandbox.choose("chroot")


def test_a_container_is_taken_where_an_engine_and_the_image_are(tmp_path, monkeypatch):
    said = tmp_path / "said"
    fake = tmp_path / "docker"
    fake.write_text(f'#!/bin/sh\necho "$@" >> {said}\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert sandbox.choose() == "docker"
    sandbox.run("docker", b"{}", sandbox.Limits(memory=512, processes=20), 0)
    words = said.read_text().splitlines()[-1]
    for flag in (
        "--network=none",
        "--memory=512m",
        "--memory-swap=512m",
        "--pids-limit=20",
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        f"--user={sandbox.FIRST_USER}:{sandbox.FIRST_USER}",
        f"resnet-marking timeout --signal=KILL {sandbox.Limits().wall + 30:g} "
        "python -I /marking/driver.py",
    ):
        assert flag in words
    mounted = [word for word in words.split() if word.startswith("--volume")]
    assert len(mounted) == 2 and all(word.endswith(":ro") for word in mounted)


def test_a_container_without_the_image_is_not_taken(tmp_path, monkeypatch):
    fake = tmp_path / "docker"
    fake.write_text('#!/bin/sh\n[ "$1" = info ]\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + ":/bin:/usr/bin")
    with pytest.raises(sandbox.Refused, match="no image resnet-marking"):
        sandbox.choose("docker")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as in a grading container")
def test_a_user_without_rights_cannot_read_what_is_roots(tmp_path):
    tmp_path.chmod(0o755)
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    cells = [
        ["one", f"import os\nopen({str(secret)!r})", 5],
        ["two", "raise ValueError(os.getuid())", 5],
    ]
    program = json.dumps({"cells": cells, "probes": []}).encode()
    out = sandbox.run("user", program, sandbox.Limits(wall=60), 3)
    said = out.output.decode()
    assert "Permission denied" in said or "PermissionError" in said
    assert re.search(rf"ValueError: {sandbox.FIRST_USER // 1000}\d\d\d\b", said)


def test_a_killed_marker_leaves_no_submission_running(engine, tmp_path):
    """The sandbox dies with the marker, whatever the submission does."""
    script = f"""
import json
from assignments.marking import sandbox
cells = [["long", "import time\\ntime.sleep(77)", 90]]
print("up", flush=True)
sandbox.run({engine!r}, json.dumps({{"cells": cells, "probes": []}}).encode(), sandbox.Limits(), 5)
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE)
    process.stdout.readline()
    mine = psutil.Process(process.pid)
    for _ in range(100):
        below = mine.children(recursive=True)
        if len(below) >= 2:
            break
        threading.Event().wait(0.1)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(below, timeout=15)
    assert not alive
