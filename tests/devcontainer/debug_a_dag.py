"""Do what an editor does with .vscode/launch.json: start it on a DAG file, and stop at a breakpoint in a task.

    python tests/devcontainer/debug_a_dag.py

Run it with the Python of the lab's environment, which has debugpy.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from airflow_celery_lab.testing.debug_adapter import Client

PROJECT = Path(__file__).resolve().parents[2]
FILE = PROJECT / "dags" / "queue_routing.py"
#: Seconds for the run to come to the breakpoint: Airflow's imports, and a new database.
PATIENCE = 180


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
        assert adapter.stdin is not None
        assert adapter.stdout is not None
        client = Client(adapter.stdin, adapter.stdout)
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
        # It tells of its sockets yet, and does not end when nobody reads that.
        adapter.stdin.close()
        adapter.stdout.read()
    print(f"went on to its end with status {status}")
    sys.exit(status or (frame["source"]["path"], frame["line"]) != (str(FILE), line))


if __name__ == "__main__":
    main()
