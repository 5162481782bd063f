"""Write the chapters' measured times into the package, where each setup cell reads them.

    python tools/timings.py [--assignments]

Takes what the last `make book` measured (`_build/timings.json`) and this machine's name, and puts
both into `resnet_lib/assets/chapters.json`. The build does not execute assignments: with
`--assignments` they are run here, as they are handed out, and timed. Run it after a build on a
machine that did nothing else; the numbers are for orientation, no test depends on them.
"""

import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def assignments() -> dict[str, float]:
    """Seconds to run each published assignment from top to bottom, at size quick."""
    import nbclient
    import nbformat

    seconds = {}
    environment = {**os.environ, "RESNET_LIB_SIZE": "quick", "GOMP_SPINCOUNT": "20000"}
    for path in sorted((ROOT / "book" / "assignments").glob("a[0-9]_*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        folder = {"metadata": {"path": path.parent}}
        start = time.perf_counter()
        nbclient.NotebookClient(notebook, timeout=600, resources=folder).execute(env=environment)
        seconds[path.name[:2]] = time.perf_counter() - start
    return seconds


def main() -> int:
    from resnet_lib.records import device_name

    measured = ROOT / "_build" / "timings.json"
    if not measured.exists():
        print("There are no timings yet: run make book first.", file=sys.stderr)
        return 1
    path = ROOT / "resnet_lib" / "assets" / "chapters.json"
    chapters = json.loads(path.read_text(encoding="utf-8"))
    found = {
        page.removeprefix("book/")[:2]: run["seconds"]
        for page, run in json.loads(measured.read_text(encoding="utf-8")).items()
    }
    if sys.argv[1:] == ["--assignments"]:
        found |= assignments()
    where = f"{os.cpu_count()} cores, {device_name('cpu').removeprefix('CPU: ')}"
    for number, seconds in found.items():
        if number in chapters:
            chapters[number]["seconds"]["quick"] = {"value": round(seconds), "on": where}
            print(f"{number}: {seconds:.0f} s on {where}")
    path.write_text(json.dumps(chapters, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
