"""An ASGI app: /stream yields pieces while GATE files appear, /ws echoes and says how it was closed."""
import asyncio
import os
import sys

import uvicorn

DIR = sys.argv[2]


async def gate(name):
    while not os.path.exists(os.path.join(DIR, name)):
        await asyncio.sleep(0.01)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                with open(os.path.join(DIR, "closed"), "a") as file:
                    file.write(f"{message['code']}\n")
                return
            await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] == "/stream":
        for i in range(3):
            await send({"type": "http.response.body", "body": b"token %d\n" % i, "more_body": True})
            await gate(f"gate-{i}")
    await send({"type": "http.response.body", "body": b"end\n"})


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
