"""The Chromium that the browser tests drive: print its path, and install Debian's where there is none and one may.

`HEADRACE_CHROMIUM` names another. Exit code 3 when there is none and it cannot be installed here.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
APPLICATION = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")


def find() -> str:
    """The path of a Chromium; "" when there is none."""
    named = os.environ.get("HEADRACE_CHROMIUM", "")
    if named:
        return named
    found = next(filter(None, map(shutil.which, NAMES)), "")
    return found or (str(APPLICATION) if APPLICATION.exists() else "")


def main() -> int:
    found = find()
    if not found and shutil.which("apt-get") and os.geteuid() == 0:
        print("Installing Chromium with apt-get …", file=sys.stderr)
        for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]):
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if done.returncode != 0:
                print(done.stderr[-500:], file=sys.stderr)
        found = find()
    if not found:
        print(
            "There is no Chromium here. Install it (Debian: sudo apt-get install chromium), or name one with"
            " HEADRACE_CHROMIUM.", file=sys.stderr,
        )  # fmt: skip
        return 3
    print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
