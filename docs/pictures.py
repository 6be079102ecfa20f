"""Draw the pictures of README anew: the report of a run, and the page on which the shipped student is tried.

``python docs/pictures.py RUN`` needs Chromium with chromedriver, and writes to ``docs/images``.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path
from typing import Any

from quipwright.data.task import Task
from quipwright.evaluation.report.pages import report_run
from quipwright.serving.app import Served, serving_app
from quipwright.serving.writer import SHIPPED, Writer
from quipwright.testing.browser import browser, served, until

IMAGES = Path(__file__).parent / "images"
WIDTH, HEIGHT = 900, 760
SENTENCE = "My grandmother recognised half the things in the museum."


def main(run: Path) -> None:
    """Both pictures, the report's of ``run``."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place, browser(Path(place) / "profile", WIDTH, HEIGHT) as driver:
        page = report_run(run, Path(place) / "report.html")
        driver.get(page.as_uri())
        _shoot(driver, "report.png")
        writer = Writer.load(SHIPPED)
        with served(serving_app(Served(writer.student, Task.load(), writer.name))) as address:
            driver.get(address)
            driver.find_element("id", "literal").send_keys(SENTENCE)
            driver.find_element("css selector", "form button").click()
            until(driver, "Its best")
            _shoot(driver, "try.png")


def _shoot(driver: Any, name: str) -> None:
    height = driver.execute_script("return document.body.scrollHeight")
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": min(HEIGHT, height), "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    (IMAGES / name).write_bytes(base64.b64decode(shot["data"]))
    print(IMAGES / name)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo"))
