"""Where a submission runs: without network, without this disk, within limits.

In this order: a container (`docker` or `podman`, where an engine answers and the image was made),
else bubblewrap's namespaces, else nothing: `choose` refuses, unless it is told that the work is
trusted. "user" is for a machine that is a container already, as Gradescope's: a user of its own.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
SHIPPED = ("driver.py", "observe.py")
IMAGE = "resnet-marking"
FIRST_USER = 61_000  # one user id for each run at a time, so that its processes are counted alone
# A file for each of them that is in use; in root's own folder, where there is one.
LOCKS = Path("/run" if os.access("/run", os.W_OK) else tempfile.gettempdir(), "resnet-marking")
# What would answer for the student. Masked in the sandbox; the image does not have them at all.
MASKED = ("torchvision", "resnet_lib", "timm", "keras", "captum", "transformers", "torchsummary")
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
}


class Refused(Exception):
    """There is no safe place to run a submission, or it was asked for in vain."""


@dataclass(frozen=True)
class Limits:
    """For one submission: seconds, MiB, number of processes and threads."""

    wall: float = 240
    cpu: int = 90
    memory: int = 3072
    processes: int = 48
    disk: int = 64
    output: int = 16


@dataclass
class Outcome:
    """What came out, why it was stopped ("" when it was not), and what it used."""

    output: bytes
    stopped: str
    seconds: float
    memory: int


def choose(wanted: str = "auto", trusted: bool = False) -> str:
    """The engine to use: "docker", "podman", "bubblewrap", "user" or "trusted".

    Raises:
        Refused: if there is none, or the wanted one does not work here; says what to do.
    """
    if trusted:
        return "trusted"
    known = {"docker": _container, "podman": _container, "bubblewrap": _bubblewrap, "user": _user}
    if wanted not in (*known, "auto"):
        raise Refused(f"engine {wanted!r}: choose auto, {', '.join(known)}")
    reasons = []
    for name in ("docker", "podman", "bubblewrap") if wanted == "auto" else (wanted,):
        if not (reason := known[name](name)):
            return name
        reasons.append(f"  {name}: {reason}")
    raise Refused(
        "A submission is untrusted code, and there is no safe place for it here:\n"
        + "\n".join(reasons)
        + "\nInstall one (Debian: apt install bubblewrap), or, for work that you trust as your own"
        " (not students' work), say --trusted."
    )


def _container(name: str) -> str:
    """Why this engine cannot be used; "" when it can."""
    if not shutil.which(name):
        return "not installed"
    if _silent(name, "info"):
        return "installed, but no engine answers"
    if _silent(name, "image", "inspect", IMAGE):
        return f"no image {IMAGE}: python -m assignments.marking image"
    return ""


def _bubblewrap(_: str) -> str:
    if not shutil.which("bwrap"):
        return "not installed"
    if not shutil.which("prlimit") or not shutil.which("setpriv"):
        return "needs prlimit and setpriv (Debian: util-linux)"
    try:
        out = run("bubblewrap", b'{"cells": [], "probes": []}', Limits(wall=60, cpu=60), 0)
    except OSError as error:
        return str(error)
    works = out.output.split() == [b'["begin"]', b'["end"]']
    return "" if works else f"does not work here: {out.stopped}"


def _user(_: str) -> str:
    if os.geteuid():
        return "needs root, to become a user without rights"
    return "" if shutil.which("setpriv") and shutil.which("prlimit") else "needs util-linux"


def _silent(*command: str) -> int:
    try:
        return subprocess.run(command, capture_output=True, timeout=30).returncode
    except (OSError, subprocess.TimeoutExpired):
        return 1


@contextmanager
def nobody(slot: int):
    """The id of a user without rights that no other run on this machine has, other markers' too."""
    if os.geteuid():
        yield FIRST_USER  # who is not root stays who they are
        return
    LOCKS.mkdir(mode=0o700, exist_ok=True)
    for user in range(FIRST_USER + slot, FIRST_USER + slot + 1000):
        with open(LOCKS / str(user), "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            yield user
            return
    raise Refused("a thousand submissions are being marked on this machine: wait for them")


def command(engine: str, limits: Limits, slot: int, name: str, folder: str, user: int) -> list[str]:
    """The command line that runs the driver. `name` is a container's, `folder` the user's own."""
    if engine in ("docker", "podman"):
        return _in_container(engine, limits, name)
    if engine == "trusted":
        return [sys.executable, "-I", str(HERE / "driver.py")]
    inner = [*_limited(limits, slot), *_dropped(user), sys.executable, "-I"]
    if engine == "user":
        alone = [] if _silent("unshare", "--net", "true") else ["unshare", "--net"]
        return [*alone, *inner, f"{folder}/driver.py"]
    return [*_namespaces(limits), *inner, "/marking/driver.py"]


def _in_container(engine: str, limits: Limits, name: str) -> list[str]:
    memory = f"{limits.memory}m"
    flags = [
        f"--name={name}",
        "--network=none",
        f"--memory={memory}",
        f"--memory-swap={memory}",
        f"--pids-limit={limits.processes}",
        "--cpus=1",
        "--read-only",
        f"--tmpfs=/tmp:size={limits.disk}m,mode=1777",
        f"--user={FIRST_USER}:{FIRST_USER}",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        f"--ulimit=cpu={limits.cpu}",
        "--ulimit=core=0",
        f"--ulimit=fsize={limits.disk * 2**20}",
        "--workdir=/tmp",
    ]
    flags += [f"--volume={HERE / file}:/marking/{file}:ro" for file in SHIPPED]
    flags += [f"--env={key}={value}" for key, value in ENVIRONMENT.items() if key != "PATH"]
    # A container does not end with the marker; this one ends by itself.
    inner = ["timeout", "--signal=KILL", f"{limits.wall + 30:g}", "python", "-I"]
    return [engine, "run", "--rm", "--interactive", *flags, IMAGE, *inner, "/marking/driver.py"]


def _limited(limits: Limits, slot: int) -> list[str]:
    cores = sorted(os.sched_getaffinity(0))  # one each: who takes all takes it from nobody else
    return [
        *("taskset", "-c", str(cores[slot % len(cores)])),
        "prlimit",
        f"--cpu={limits.cpu}",
        f"--data={limits.memory * 2**20}",
        f"--fsize={limits.disk * 2**20}",
        f"--nproc={limits.processes}",
        "--nofile=256",
        "--core=0",
    ]


def _dropped(user: int) -> list[str]:
    """Become a user without any rights. Who is not root has none to give up but new ones."""
    if os.geteuid():
        return ["setpriv", "--no-new-privs"]
    ids = [f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    return ["setpriv", *ids, "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]


def _namespaces(limits: Limits) -> list[str]:
    """A root made from nothing: the system's libraries, Python and torch, all read-only."""
    root = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "lib", "lib32", "lib64", "sbin"):
        path = Path("/", name)
        if path.is_symlink():
            root += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            root += ["--ro-bind", str(path), str(path)]
    root += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    root += ["--proc", "/proc", "--dev", "/dev"]
    small = ["--perms", "1777", "--size", str(limits.disk * 2**20), "--tmpfs"]
    root += [*small, "/tmp", *small, "/dev/shm"]
    for prefix in dict.fromkeys((sys.base_prefix, sys.prefix)):  # after /tmp: they may lie in it
        if not Path(prefix).is_relative_to("/usr"):
            for parent in reversed(Path(prefix).parents[:-1]):  # else only root could pass them
                root += ["--perms", "0755", "--dir", str(parent)]
            root += ["--ro-bind", prefix, prefix]
    for path in _answers():
        root += ["--tmpfs", str(path), "--remount-ro", str(path)]
    root += ["--perms", "0755", "--dir", "/marking"]
    for file in SHIPPED:
        root += ["--ro-bind", str(HERE / file), f"/marking/{file}"]
    root += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp", "--clearenv"]
    for key, value in ENVIRONMENT.items():
        root += ["--setenv", key, value]
    alone = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    alone += ["--unshare-cgroup-try", "--die-with-parent", "--new-session"]
    if os.geteuid():
        alone += ["--unshare-user"]
    else:  # the rights to become another user, given up by setpriv right after
        alone += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        alone += ["--cap-add", "CAP_SETPCAP"]
    return ["bwrap", *alone, *root]


def _answers() -> list[Path]:
    """Folders inside what the sandbox gets of this disk that would answer for the student."""
    ours = ("assignments", "book", "resnet_lib", "tests", ".git")
    paths = [HERE.parents[1] / name for name in ours]
    libraries = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    own = {"base": sys.base_prefix, "platbase": sys.base_prefix}
    libraries += [sysconfig.get_path("purelib", vars=own), "/usr/lib/python3/dist-packages"]
    paths += [Path(place, name) for place in dict.fromkeys(libraries) for name in MASKED]
    bound = ("/usr", sys.base_prefix, sys.prefix)
    return [p for p in paths if p.is_dir() and any(p.is_relative_to(b) for b in bound)]


def run(engine: str, program: bytes, limits: Limits, slot: int = 0) -> Outcome:
    """Run the driver on `program` in the sandbox of `engine`; `slot` tells runs side by side apart.

    Never raises for what a submission does. Engine "forked" is no sandbox: it runs work that is
    trusted in a copy of this process, which has torch already.
    """
    if engine == "forked":
        return _forked(program, limits)
    name = f"marking-{uuid.uuid4().hex[:12]}"
    with tempfile.TemporaryDirectory(prefix="marking-") as folder, nobody(slot) as user:
        if engine == "user":
            _end_all_of(user)  # of a marker that was killed
            _furnish(folder, user)
        words = command(engine, limits, slot, name, folder, user)
        start = time.monotonic()
        environment = None if engine in ("docker", "podman") else ENVIRONMENT
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=folder if engine in ("user", "trusted") else None,
            start_new_session=True,
        )
        watched = _Watch(process, limits, start)
        watched.run(program)
        if engine in ("docker", "podman") and watched.stopped:
            _silent(engine, "kill", name)
        if engine == "user":
            _end_all_of(user)
    return Outcome(
        watched.output, watched.stopped, round(time.monotonic() - start, 2), watched.memory
    )


def _forked(program: bytes, limits: Limits) -> Outcome:
    from . import driver

    start = time.monotonic()
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as said:
        asked.write(program)
        asked.seek(0)
        child = os.fork()
        if child == 0:
            os.dup2(asked.fileno(), 0)
            os.dup2(said.fileno(), 1)
            os.setsid()
            sys.stdin = os.fdopen(os.dup(0), encoding="utf-8")
            signal.alarm(int(limits.wall))
            try:
                driver.main()
            finally:
                os._exit(1)
        os.waitpid(child, 0)
        said.seek(0)
        return Outcome(said.read(), "", round(time.monotonic() - start, 2), 0)


def _furnish(folder: str, user: int) -> None:
    for file in SHIPPED:
        shutil.copy(HERE / file, folder)
    os.chown(folder, user, user)


def _end_all_of(user: int) -> None:
    """One call of the kernel's for all: one after the other, a fork bomb would get away."""
    ids = [f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    _silent("setpriv", *ids, "sh", "-c", "kill -KILL -1")


def memory_of(process: psutil.Process) -> int:
    """Bytes; pages that several processes share (after a fork) count once among them."""
    try:
        return process.memory_full_info().pss
    except psutil.NoSuchProcess:
        return 0
    except (psutil.Error, AttributeError):
        try:
            return process.memory_info().rss
        except psutil.Error:
            return 0


class _Watch:
    """Feeds a process, reads what it says, and ends it when it passes a limit."""

    def __init__(self, process: subprocess.Popen, limits: Limits, start: float):
        self.process, self.limits, self.start = process, limits, start
        self.output, self.stopped, self.memory = b"", "", 0

    def run(self, program: bytes) -> None:
        errors = []
        threads = [
            threading.Thread(target=self._feed, args=(program,), daemon=True),
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._keep, args=(errors,), daemon=True),
        ]
        for thread in threads:
            thread.start()
        while self.process.poll() is None:
            self._look()
            try:
                self.process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        for thread in threads:
            thread.join(5)
        if self.process.returncode and not self.stopped and b'["end"]' not in self.output[-80:]:
            last = b"".join(errors).decode("utf-8", "replace").strip().splitlines()[-1:]
            code = self.process.returncode
            self.stopped = f"ended with status {code}" + (f": {last[0][:200]}" if last else "")

    def _feed(self, program: bytes) -> None:
        try:
            self.process.stdin.write(program)
            self.process.stdin.close()
        except OSError:
            pass  # it ended before it had read everything

    def _read(self) -> None:
        pieces, size, most = [], 0, self.limits.output * 2**20
        while piece := self.process.stdout.read1(1 << 20):
            size += len(piece)
            if size > most:
                self._stop(f"wrote more than {self.limits.output} MiB")
                break
            pieces.append(piece)
        self.output = b"".join(pieces)

    def _keep(self, errors: list[bytes]) -> None:
        while piece := self.process.stderr.read1(1 << 16):
            errors[:] = [*errors, piece][-4:]

    def _look(self) -> None:
        if time.monotonic() - self.start > self.limits.wall:
            return self._stop(f"took longer than {self.limits.wall:g} s")
        memory, processes = 0, 0
        try:
            for process in psutil.Process(self.process.pid).children(recursive=True):
                processes += 1
                memory += memory_of(process)
        except psutil.Error:
            return None
        self.memory = max(self.memory, memory >> 20)
        if self.memory > self.limits.memory:
            self._stop(f"used more than {self.limits.memory} MiB of memory")
        elif processes > self.limits.processes + 8:
            self._stop(f"started more than {self.limits.processes} processes")
        return None

    def _stop(self, reason: str) -> None:
        self.stopped = self.stopped or reason
        self.process.kill()
