"""Write the chapters' measured times into the package, where each setup cell reads them.

    python tools/timings.py

Takes what the last `make book` measured (`_build/timings.json`) and this machine's name, and puts
both into `resnet_lib/assets/chapters.json`. Run it after a build on a machine that did nothing
else; the numbers are for orientation, no test depends on them.
"""

import json
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def main() -> int:
    from resnet_lib.records import device_name

    measured = ROOT / "_build" / "timings.json"
    if not measured.exists():
        print("There are no timings yet: run make book first.", file=sys.stderr)
        return 1
    path = ROOT / "resnet_lib" / "assets" / "chapters.json"
    chapters = json.loads(path.read_text(encoding="utf-8"))
    for page, run in json.loads(measured.read_text(encoding="utf-8")).items():
        number = re.match(r"book/(\d\d)_", page)
        if number and number[1] in chapters:
            where = f"{os.cpu_count()} cores, {device_name('cpu').removeprefix('CPU: ')}"
            value = {"value": round(run["seconds"]), "on": where}
            chapters[number[1]]["seconds"]["quick"] = value
            print(f"{page}: {value['value']} s on {where}")
    path.write_text(json.dumps(chapters, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
