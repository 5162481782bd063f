"""Build the book: ``make book``.

Does nothing when nothing changed. Otherwise renders every page anew (a few seconds) and executes
what has to be executed: all notebooks when the package, a library version or the size changed, else
only the notebooks that changed themselves (the notebook cache sees to that). Standard library only,
so that the check costs no time.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the reader may call it with any Python
    sys.exit("This book needs Python 3.11 or newer; this is Python " + sys.version.split()[0])

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE_INPUTS = ("_config.yml", "_toc.yml", "requirements.txt", "book")
LIBRARY_INPUTS = ("resnet_lib",)
PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "matplotlib",
    "scikit-learn",
    "jupyter-book",
    "myst-nb",
)
SKIP = {"__pycache__", ".ipynb_checkpoints", ".DS_Store"}
HEARTBEAT = 15.0
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def files(root: Path, names) -> list[Path]:
    found = []
    for name in names:
        path = root / name
        if path.is_file():
            found.append(path)
        for folder, below, inside in os.walk(path):
            below[:] = sorted(set(below) - SKIP)
            found += [Path(folder, name) for name in sorted(set(inside) - SKIP)]
    return [path for path in found if path.suffix not in {".pyc", ".swp"}]


def digest(root: Path, names, *extra: str) -> str:
    """One hash over names and contents of files."""
    total = hashlib.sha256("\n".join(extra).encode())
    for path in files(root, names):
        total.update(f"\0{path.relative_to(root).as_posix()}\0".encode())
        with contextlib.suppress(FileNotFoundError):  # an editor may have moved it meanwhile
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def versions() -> list[str]:
    found = [f"python {sys.version_info[0]}.{sys.version_info[1]}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} missing")
    return found


def size() -> str:
    return os.environ.get("RESNET_LIB_SIZE", "quick")


def state_of(root: Path) -> dict:
    library = digest(root, LIBRARY_INPUTS, *versions(), size())
    return {"library": library, "all": digest(root, PAGE_INPUTS, library)}


def decide(root: Path, now: dict) -> dict:
    """What this build has to do: ``skip`` it, and whether to drop the executed notebooks."""
    build = root / "_build"
    try:
        last = json.loads((build / "inputs.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        last = {}
    page = build / "html" / "index.html"
    return {
        "skip": last.get("all") == now["all"] and page.exists(),
        "drop_cache": last.get("library") != now["library"],
    }


def remember(root: Path, **state) -> None:
    (root / "_build").mkdir(exist_ok=True)
    (root / "_build" / "inputs.json").write_text(json.dumps(state) + "\n", encoding="utf-8")


def environment() -> dict[str, str]:
    env = dict(os.environ)
    env.pop("MPLBACKEND", None)  # the notebook kernel chooses its own, inline
    # Waiting threads spin for a moment, then sleep. Measured on small nets: spinning for ever is
    # several times slower on a busy machine, sleeping at once twice as slow on a quiet one.
    env.setdefault("GOMP_SPINCOUNT", "20000")
    env.update(
        SOURCE_DATE_EPOCH="0",
        RESNET_LIB_SIZE=size(),
        PYTHONUNBUFFERED="1",
        PYTHONHASHSEED="0",
        JUPYTER_PREFER_ENV_PATH="1",
        PYDEVD_DISABLE_FILE_VALIDATION="1",
    )
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", "")])
    return env


class Progress:
    """Reads Sphinx's output and says, in a line each, what is going on."""

    EXECUTING = re.compile(r"^(\S+?)(?:\.ipynb|\.md)?: Executing notebook using")
    EXECUTED = re.compile(r"^(\S+?)(?:\.ipynb|\.md)?: Executed notebook in ([\d.]+) seconds")
    CACHED = re.compile(r"^(\S+?)(?:\.ipynb|\.md)?: Using cached notebook")
    STEPS = ("reading sources", "writing output", "copying assets", "dumping search index")
    TROUBLE = re.compile(r"WARNING|ERROR|CRITICAL|Traceback|Exception occurred")

    def __init__(self, root: Path):
        self.root, self.start, self.doing, self.trouble = root, time.monotonic(), "starting", []
        self.spoke, self.said, self.done = self.start, set(), threading.Event()

    def say(self, text: str) -> None:
        self.spoke = time.monotonic()
        print(f"[{self.spoke - self.start:6.1f} s] {text}", flush=True)

    def beat(self) -> None:
        while not self.done.wait(1.0):
            if time.monotonic() - self.spoke > HEARTBEAT:
                self.say(f"… still {self.doing}")

    def step(self, doing: str) -> None:
        if doing not in self.said:
            self.said.add(doing)
            self.doing = doing
            self.say(doing)

    def name(self, path: str) -> str:
        with contextlib.suppress(ValueError):
            return Path(path).relative_to(self.root).as_posix()
        return path

    def line(self, line: str) -> None:
        text = line.strip()
        if match := self.EXECUTING.match(text):
            self.step(f"executing {self.name(match[1])}")
        elif match := self.EXECUTED.match(text):
            self.say(f"executed  {self.name(match[1])} in {float(match[2]):.1f} s")
        elif match := self.CACHED.match(text):
            self.say(f"unchanged {self.name(match[1])}, results reused")
        elif self.TROUBLE.search(text) and "IPKernelApp" not in text:
            self.trouble.append(text.replace(f"{self.root}{os.sep}", ""))
        else:
            for step in self.STEPS:
                if text.startswith(step) and not text.endswith("..."):
                    self.step(step)


def run_jupyter_book(root: Path) -> int:
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command += ["build", str(root), "-W", "-n", "--keep-going"]
    progress = Progress(root)
    log = []
    process = subprocess.Popen(
        command,
        cwd=root,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=os.name == "posix",
    )
    heart = threading.Thread(target=progress.beat, daemon=True)
    heart.start()
    try:
        for raw in process.stdout:
            line = ANSI.sub("", raw.rsplit("\r", 1)[-1] if "\r" in raw.strip() else raw).rstrip()
            log.append(line)
            progress.line(line)
        code = process.wait()
    except KeyboardInterrupt:
        with contextlib.suppress(ProcessLookupError, AttributeError):
            os.killpg(process.pid, signal.SIGTERM)
        sys.exit("\nInterrupted. What was executed so far is kept for the next run.")
    finally:
        progress.done.set()
    (root / "_build").mkdir(exist_ok=True)
    (root / "_build" / "build.log").write_text("\n".join(log) + "\n", encoding="utf-8")
    if code or progress.trouble or not (root / "_build" / "html" / "index.html").exists():
        explain(root, log, progress.trouble)
        return code or 1
    return 0


def explain(root: Path, log: list[str], trouble: list[str]) -> None:
    """The reason of a failed build, readable, last thing on the screen."""
    print("\nThe build failed.", file=sys.stderr)
    for line in dict.fromkeys(trouble):
        if "Traceback" not in line and "Exception occurred" not in line:
            print(f"  {line}", file=sys.stderr)
    notebook = _notebook_error(log)
    if notebook:
        print("\n" + "\n".join(notebook), file=sys.stderr)
    elif not trouble:
        print("\n".join(log[-25:]), file=sys.stderr)
    print("\nAll output: _build/build.log", file=sys.stderr)


def _notebook_error(log: list[str], most: int = 60) -> list[str]:
    """The failing cell and its traceback, which myst-nb prints after saying that it failed."""
    start = next((at for at, line in enumerate(log) if "Executing notebook failed" in line), None)
    if start is None:
        return []
    part = []
    for line in log[start + 1 :]:
        if re.match(r"Exception occurred|Extension error|={20,}", line):
            break
        if line.startswith("nbclient.exceptions."):  # what stands above is nbclient's own
            part.clear()
        part.append(line.removesuffix(" [mystnb.exec]"))
    while part and not part[-1].strip():
        part.pop()
    return part if len(part) <= most else [*part[:20], "   …", *part[20 - most :]]


def report(root: Path, seconds: float) -> None:
    try:
        timings = json.loads((root / "_build" / "timings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        timings = {}
    if timings:
        width = max(map(len, timings))
        print(f"\n{'notebook':<{width}}  seconds to execute")
        for name, run in timings.items():
            took = "?" if run["seconds"] is None else f"{run['seconds']:.1f}"
            print(f"{name:<{width}}  {took:>7}")
        total = sum(run["seconds"] or 0 for run in timings.values())
        print(f"{'all':<{width}}  {total:7.1f}")
    print(f"\nBuilt in {seconds:.1f} s. Open {where(root)}")


def where(root: Path) -> str:
    return str(root / "_build" / "html" / "index.html")


def main(root: Path = ROOT) -> int:
    start = time.monotonic()
    now = state_of(root)
    todo = decide(root, now)
    if todo["skip"]:
        print(f"Nothing changed since the last build. Open {where(root)}")
        return 0
    build = root / "_build"
    if todo["drop_cache"]:
        if (build / ".jupyter_cache").exists():
            print("The package, a library or the size changed: every notebook is executed again.")
        shutil.rmtree(build / ".jupyter_cache", ignore_errors=True)
    # Old pages and pictures go: everything is rendered anew, from the notebook cache if it can.
    for old in ("html", ".doctrees", "jupyter_execute"):
        shutil.rmtree(build / old, ignore_errors=True)
    (build / "timings.json").unlink(missing_ok=True)
    remember(root, library=now["library"])
    code = run_jupyter_book(root)
    if code:
        return code
    if state_of(root) == now:
        remember(root, **now)
    else:
        print("\nSomething was edited during the build: run it again to see it.")
    report(root, time.monotonic() - start)
    return 0


if __name__ == "__main__":
    sys.exit(main())
