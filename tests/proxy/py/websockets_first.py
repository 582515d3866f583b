"""Prints the first message of URL."""
import asyncio
import sys
from urllib.parse import urlsplit

from websockets.asyncio.client import connect


async def main():
    at = urlsplit(sys.argv[1])
    async with connect(f"ws://{sys.argv[2]}{at.path}", host=at.hostname, port=at.port, proxy=None) as socket:
        print(await socket.recv())
        await socket.send("back")
        assert await socket.recv() == "back"


asyncio.run(main())
