"""Pages as a real browser sees them."""

import functools
import html
import json
import re
import shutil
import subprocess
import threading
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs chromium, chromium-browser or google-chrome")

COMMAND = [
    str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--hide-scrollbars", "--disable-background-networking",
]  # fmt: skip

PDFTOTEXT = shutil.which("pdftotext")
needs_paper = pytest.mark.skipif(not (BROWSER and PDFTOTEXT), reason="needs a browser and pdftotext")

PHONE = 360

# Frames have exactly the width that they are given; a headless window may not. Same origin, so we can look into them.
WRAPPER = """<!doctype html><meta charset="utf-8"><title>wrapper</title>
<script>
// a heading of one word that stands in several lines
const inLines = heading => {
  const range = document.createRange();
  range.selectNodeContents(heading);
  const tops = new Set([...range.getClientRects()].map(box => Math.round(box.top / 8)));
  return !/\\s/.test(heading.textContent.trim()) && tops.size > 1;
};
addEventListener("load", () => {
  const seen = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, all = [...page.querySelectorAll("*")];
    return {
      title: page.title, text: page.body.textContent, width: page.documentElement.scrollWidth,
      tags: [...new Set(all.map(element => element.localName))],
      handlers: all.flatMap(element => [...element.attributes]).filter(a => a.name.startsWith("on")).length,
      images: [...page.images].map(i => [i.src.slice(0, 22), i.naturalWidth, i.alt]),
      links: [...page.links].map(link => link.getAttribute("href")),
      broken: [...page.querySelectorAll("thead:not(.hidden) th")].filter(inLines).map(e => e.textContent),
      wide: all.filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.localName),
    };
  });
  const found = document.createElement("pre");
  found.id = "seen";
  found.textContent = JSON.stringify(seen);
  document.body.append(found);
});
</script>
<body>"""


@dataclass
class Seen:
    """One page. images: (start of the URL, width in pixels, alternative text).

    broken: headings of tables that have one word and stand in several lines.
    """

    title: str
    text: str
    width: int
    tags: list[str]
    handlers: int
    images: list[tuple[str, int, str]]
    links: list[str]
    broken: list[str]
    wide: list[str]


def look_at(folder: Path, pages: dict[str, str], width: int = PHONE) -> tuple[dict[str, Seen], list[str]]:
    """(what a browser makes of each page at this width, every path that it asked our server for)."""
    frames = ""
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
        frames += f'<iframe src="{name}.html" style="border:0;width:{width}px;height:800px"></iframe>\n'
    (folder / "wrapper.html").write_text(WRAPPER + frames, encoding="utf-8")
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, *_: Any) -> None:
            asked.append(self.path)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = subprocess.run(
            [
                *COMMAND, f"--user-data-dir={folder / 'profile'}",
                "--virtual-time-budget=10000", "--dump-dom", f"http://127.0.0.1:{server.server_port}/wrapper.html",
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
    finally:
        server.shutdown()
        server.server_close()
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    seen = json.loads(html.unescape(found[1]))
    return {name: Seen(**each) for name, each in zip(pages, seen, strict=True)}, asked


def print_page(folder: Path, page: str) -> list[str]:
    """The text of each sheet of paper, as a browser prints the page."""
    (folder / "page.html").write_text(page, encoding="utf-8")
    paper = folder / "page.pdf"
    subprocess.run([*COMMAND, f"--user-data-dir={folder / 'profile'}", "--no-pdf-header-footer",
                    f"--print-to-pdf={paper}", (folder / "page.html").as_uri()],
                   capture_output=True, timeout=120, check=True)  # fmt: skip
    told = subprocess.run([str(PDFTOTEXT), "-layout", str(paper), "-"], capture_output=True, text=True, check=True)
    return told.stdout.split("\f")[:-1]
