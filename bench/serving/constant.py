"""The same HTTP stack with a constant for an answer: what no model server on it can exceed. `constant.py PORT`."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

from headrace.serving.runtime.serve import listening, serve
from headrace.serving.runtime.settings import Settings

ANSWER = b'{"predictions":[1]}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]


class Constant:
    """Reads the body, and answers."""

    served = SimpleNamespace(settings=Settings())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": ANSWER})


if __name__ == "__main__":
    application: Any = Constant()
    serve(application, listening("127.0.0.1", int(sys.argv[1])))
