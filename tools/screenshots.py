"""Pictures of every page, light, dark and phone: tools/screenshots.py FOLDER [PART OF A NAME]"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

LOOKS = {"light": ("light", 1280, 900), "dark": ("dark", 1280, 900), "phone": ("light", 375, 812)}


def main(out: str, wanted: str = "") -> int:
    from pages import launch, pages, serve, settle  # tests/pages.py, shared with the page tests

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with serve() as address, launch() as browser:
        for look, (scheme, width, height) in LOOKS.items():
            context = browser.new_context(
                color_scheme=scheme,
                viewport={"width": width, "height": height},
                reduced_motion="reduce",
            )
            page = context.new_page()
            for name in pages():
                if wanted in name:
                    if not page.goto(f"{address}/{name}").ok:
                        sys.exit(f"{name} is not built: make book")
                    settle(page)
                    target = folder / f"{name.removesuffix('.html').replace('/', '_')}-{look}.png"
                    page.screenshot(path=str(target), full_page=True)
                    print(target)
            context.close()
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
