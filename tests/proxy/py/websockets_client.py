"""The `websockets` package against URL: messages of all sizes come back; then prints the code of the server's close."""
import asyncio
import sys
from urllib.parse import urlsplit

import websockets
from websockets.asyncio.client import connect


async def main():
    at = urlsplit(sys.argv[1])
    async with connect(f"ws://{sys.argv[2]}{at.path}", host=at.hostname, port=at.port, max_size=None, proxy=None) as socket:
        for size in [0, 1, 125, 126, 65_535, 65_536, 1_000_000]:
            await socket.send("x" * size)
            assert await socket.recv() == "x" * size, size
            await socket.send(b"\0" * size)
            assert await socket.recv() == b"\0" * size, size
        await (await socket.ping())
        print("ready", flush=True)
        try:
            await socket.recv()
        except websockets.ConnectionClosed as closed:
            print("closed", closed.rcvd.code if closed.rcvd else "without a close", flush=True)


asyncio.run(main())
