"""relay.py FROM TO: joins connections on the loopback port FROM to the loopback port TO, byte by byte."""

import asyncio
import sys


async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


async def join(reader, writer):
    try:
        there = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    except OSError:
        writer.transport.abort()
        return
    await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))
    there[1].close()
    writer.close()


async def main():
    async with await asyncio.start_server(join, "127.0.0.1", int(sys.argv[1])) as server:
        await server.serve_forever()


asyncio.run(main())
