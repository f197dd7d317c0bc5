"""`make picture`: what the first minutes look like, as docs/pictures/first-minutes.svg.

The commands are run, on a real cluster of three that loses a broker; what they print is drawn. Ports and the
folder are made short.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path
from typing import Final

PICTURE: Final = Path(__file__).parents[1] / "docs" / "pictures" / "first-minutes.svg"
RAFTLOG: Final = f"{sys.executable} -m raftlog"
COLUMNS: Final = 96
LINE_HEIGHT: Final = 19
WIDTH: Final = 8.4
"""Of a character in the font that is drawn, in pixels."""
COMMANDS: Final = (
    "raftlog topic create orders -p 3",
    "seq 1000 | raftlog produce orders",
    "kill -9 {pid}",
    "raftlog consume orders --from-beginning -e | wc -l",
    "raftlog dev --revive",
    "raftlog cluster health",
)


def play(folder: Path) -> list[tuple[str, str]]:
    """Run everything; each line with what it is: `command` or `output`."""
    command = [*RAFTLOG.split(), "dev", "--port", "0", "--data-dir", str(folder / "dev")]
    lines = [("command", "raftlog dev &")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as dev:
        assert dev.stdout is not None
        told = [dev.stdout.readline().rstrip() for _ in range(4)]
        dev.stdout.readline()
        bootstrap = told[0].split("bootstrap=")[1].split()[0]
        pid = told[1].split("process ")[1].split(",")[0]
        lines += [("output", line) for line in told]
        environment = {**os.environ, "RAFTLOG_BOOTSTRAP": bootstrap}
        for shown in COMMANDS:
            lines.append(("command", shown.format(pid=pid)))
            if "--revive" in shown:
                subprocess.run([*command[:-4], "--revive", "--data-dir", str(folder / "dev")], check=True)
                lines.append(("output", dev.stdout.readline().rstrip()))
                continue
            run = shown.format(pid=pid).replace("raftlog ", f"{RAFTLOG} ")
            done = subprocess.run(
                ["bash", "-c", run],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            lines += [("output", line) for line in done.stdout.splitlines()]
        dev.send_signal(signal.SIGINT)
    return [(kind, _short(line, bootstrap, folder)) for kind, line in lines]


def _short(line: str, bootstrap: str, folder: Path) -> str:
    for number, address in enumerate(bootstrap.split(",")):
        line = line.replace(address, f"127.0.0.1:{9092 + number}")
    line = re.sub(r" http=\S+", "", line).replace(str(folder), "/tmp/raftlog")
    return line if len(line) <= COLUMNS else f"{line[: COLUMNS - 1]}…"


def drawn(lines: list[tuple[str, str]]) -> str:
    """A terminal with these lines."""
    height = LINE_HEIGHT * len(lines) + 54
    rows = []
    for number, (kind, line) in enumerate(lines):
        y = 54 + LINE_HEIGHT * number
        prompt = '<tspan class="prompt">$ </tspan>' if kind == "command" else ""
        rows.append(f'<text x="16" y="{y}" class="{kind}" xml:space="preserve">{prompt}{escape(line)}</text>')
    width = int(COLUMNS * WIDTH) + 32
    dots = "".join(f'<circle cx="{20 + 18 * n}" cy="18" r="6" fill="{c}"/>' for n, c in enumerate(_DOTS))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">
<style>text{{font:14px ui-monospace,Menlo,Consolas,monospace;fill:#c9d1d9}}
.command{{fill:#fff}}.prompt{{fill:#3fb950}}</style>
<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>
{dots}
{chr(10).join(rows)}
</svg>
"""


_DOTS: Final = ("#ff5f57", "#febc2e", "#28c840")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="raftlog-picture-") as name:
        PICTURE.write_text(drawn(play(Path(name))), encoding="utf-8")
    print(PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
