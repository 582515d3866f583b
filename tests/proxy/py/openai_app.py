"""An ASGI app that speaks OpenAI's chat completions: openai_app.py PORT [START_GATE].

It listens once the file START_GATE exists. Whole answers and streams alike say which model was asked for, and the
digest of the body, byte for byte.
"""
import hashlib
import json
import os
import sys
import time

import uvicorn


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    asked = json.loads(body)
    words = [asked["model"], " ", hashlib.sha256(body).hexdigest()]

    def answer(kind, choice):
        made = {"id": "1", "object": kind, "created": 1, "model": asked["model"], "choices": [choice]}
        return json.dumps(made).encode()

    streams = asked.get("stream", False)
    kind = b"text/event-stream; charset=utf-8" if streams else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    if streams:
        for word in words:
            choice = {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}
            event = b"data: " + answer("chat.completion.chunk", choice) + b"\n\n"
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
    else:
        message = {"role": "assistant", "content": "".join(words)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        await send({"type": "http.response.body", "body": answer("chat.completion", choice)})


while len(sys.argv) > 2 and not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
