"""An editor's side of the Debug Adapter Protocol."""

from __future__ import annotations

import json
from typing import IO, Any


class Client:
    """Talks to a debug adapter, over its pipes or a socket."""

    def __init__(self, to: IO[bytes], from_: IO[bytes]) -> None:
        self._to, self._from = to, from_
        self._number = 0

    def request(self, command: str, **arguments: Any) -> None:
        """Send a request; `until` returns what comes of it."""
        self._number += 1
        body = json.dumps({"seq": self._number, "type": "request", "command": command, "arguments": arguments}).encode()
        self._to.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._to.flush()

    def until(self, name: str) -> dict[str, Any]:
        """Return the next event or response of that name; print what the program prints before that.

        Raises:
            ConnectionError: the adapter refused something, or has ended.

        """
        while header := self._from.readline():
            length = int(header.split(b":")[1])
            self._from.readline()
            message: dict[str, Any] = json.loads(self._from.read(length))
            if message.get("success") is False:
                raise ConnectionError(f"the debugger refused {message['command']}: {message.get('message')}")
            if message.get("event") == "output":
                print(message["body"]["output"], end="", flush=True)
            if name in (message.get("event"), message.get("command")):
                return message
        raise ConnectionError(f"the program ended before `{name}`")

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a request, and return the body of the answer."""
        self.request(command, **arguments)
        return dict(self.until(command).get("body") or {})
