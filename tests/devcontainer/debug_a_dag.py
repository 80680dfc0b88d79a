"""Do what an editor does with .vscode/launch.json: start it on a DAG file, and stop at a breakpoint in a task.

    python tests/devcontainer/debug_a_dag.py

Needs debugpy, which the editor's Python extension brings along, in `sys.path`; it is in requirements/dev.lock.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
FILE = PROJECT / "dags" / "queue_routing.py"
#: Seconds for the run to come to the breakpoint: Airflow's imports, and a new database.
PATIENCE = 180


class Client:
    """An editor's side of the Debug Adapter Protocol."""

    def __init__(self, adapter: subprocess.Popen[bytes]) -> None:
        assert adapter.stdin is not None
        assert adapter.stdout is not None
        self._to, self._from = adapter.stdin, adapter.stdout
        self._number = 0

    def request(self, command: str, **arguments: Any) -> None:
        self._number += 1
        body = json.dumps({"seq": self._number, "type": "request", "command": command, "arguments": arguments}).encode()
        self._to.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._to.flush()

    def until(self, name: str) -> dict[str, Any]:
        """Return the next event or response of that name."""
        for message in self._messages():
            if message.get("success") is False:
                sys.exit(f"the debugger refused {message['command']}: {message.get('message')}")
            if message.get("event") == "output":
                print(message["body"]["output"], end="", flush=True)
            if name in (message.get("event"), message.get("command")):
                return message
        sys.exit(f"the program ended before `{name}`")

    def _messages(self) -> Iterator[dict[str, Any]]:
        while header := self._from.readline():
            length = int(header.split(b":")[1])
            self._from.readline()
            yield json.loads(self._from.read(length))


def launch() -> dict[str, Any]:
    """Return the launch configuration, its variables replaced as the editor does."""
    text = re.sub(r"^\s*//.*", "", (PROJECT / ".vscode" / "launch.json").read_text(encoding="utf-8"), flags=re.MULTILINE)
    values = {"${file}": str(FILE), "${workspaceFolder}": str(PROJECT)}
    for variable, value in values.items():
        text = text.replace(variable, json.dumps(value)[1:-1])
    configuration: dict[str, Any] = json.loads(text)["configurations"][0]
    return configuration


def main() -> None:
    """Start it, set a breakpoint in a task, see that the task stops there, and let it go on to its end."""
    signal.alarm(PATIENCE)
    line = next(number for number, text in enumerate(FILE.read_text(encoding="utf-8").splitlines(), start=1) if "return" in text)
    interpreter = f"{os.environ['LAB_VENV']}/bin/python"
    with subprocess.Popen([interpreter, "-m", "debugpy.adapter"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as adapter:
        client = Client(adapter)
        client.request("initialize", adapterID="debugpy", pathFormat="path")
        client.until("initialize")
        client.request("launch", **{**launch(), "console": "internalConsole"}, python=[interpreter])
        client.until("initialized")
        client.request("setBreakpoints", source={"path": str(FILE)}, breakpoints=[{"line": line}])
        client.request("configurationDone")
        thread = client.until("stopped")["body"]["threadId"]
        client.request("stackTrace", threadId=thread)
        frame = client.until("stackTrace")["body"]["stackFrames"][0]
        print(f"stopped in {frame['name']}, {frame['source']['path']} line {frame['line']}", flush=True)
        client.request("setBreakpoints", source={"path": str(FILE)}, breakpoints=[])
        client.request("continue", threadId=thread)
        status = client.until("exited")["body"]["exitCode"]
        client.until("terminated")
        client.request("disconnect")
        client.until("disconnect")
    print(f"went on to its end with status {status}")
    sys.exit(status or (frame["source"]["path"], frame["line"]) != (str(FILE), line))


if __name__ == "__main__":
    main()
