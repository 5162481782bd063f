# Setup. Finds resnet_lib, or installs it alone: torch, torchvision and numpy stay as they are.
import importlib.util
import os
import pathlib
import subprocess
import sys

SOURCE = os.environ.get("RESNET_LIB_SOURCE", "git+{url}@{branch}")
sys.path[:0] = [str(p.resolve()) for p in map(pathlib.Path, (".", "..", "../..")) if (p / "resnet_lib/__init__.py").exists()]
for module, wanted in (("resnet_lib", SOURCE), ("torchsummary", "torchsummary==1.5.1")):
    if importlib.util.find_spec(module) is None:
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", wanted]
        if subprocess.run(command).returncode:
            raise SystemExit(
                f"{module} could not be installed from {wanted} (pip's reason stands above). Without a way to "
                "GitHub, set RESNET_LIB_SOURCE to a zip or a folder of this book and run the cell again."
            )
        importlib.invalidate_caches()

from resnet_lib import lab

here = lab.start("{chapter}")
