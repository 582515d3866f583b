"""Prints the first message of URL."""
import asyncio
import sys

from websockets.asyncio.client import connect


async def main():
    async with connect(sys.argv[1], additional_headers={"host": sys.argv[2]}, proxy=None) as socket:
        print(await socket.recv())
        await socket.send("back")
        assert await socket.recv() == "back"


asyncio.run(main())
