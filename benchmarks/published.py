"""What a published solution is worth on a private copy: points by machine.

    python benchmarks/published.py [--keep FILE]

For each assignment and three course secrets: the master's solution as it is (it asks PARAMETERS for
its numbers), and with the numbers of the public copy written in. The teachers' page shows
assignments/published.txt.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from assignments.marking import mark, master

SECRETS = [f"the secret of an example course, number {n}" for n in range(3)]


def written_in(work: master.Master) -> dict:
    """The solution with the public copy's numbers instead of PARAMETERS."""
    notebook = mark.solved(work)
    numbers = "PARAMETERS = " + repr(work.parameters)
    answers = {cell.id for cell in work.cells if cell.role == "answer"}
    for cell in notebook["cells"]:
        if cell["id"] in answers:  # whatever way the code reads them, it gets the public ones
            cell["source"] = f"{numbers}\n{cell['source']}"
    return notebook


def points(work: master.Master, notebook: dict, secret: str) -> int:
    result = mark.mark(work, notebook, "published", "forked", secret)
    return sum(part["got"] for part in result["parts"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    lines = ["   of   as published   public numbers written in, three private copies"]
    for name in master.masters():
        work = master.find(name)
        most = sum(part.points for part in work.parts)
        same = [points(work, mark.solved(work), secret) for secret in SECRETS]
        other = [points(work, written_in(work), secret) for secret in SECRETS]
        shown = ", ".join(f"{n:g}" for n in dict.fromkeys(same))
        lines.append(f"{name} {most:<4g} {shown:14} {', '.join(f'{n:g}' for n in other)}")
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if args.keep:
        args.keep.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
