"""httpx against URL (HOST header given): a stream, an upload, and many requests over one connection."""
import sys

import httpx

url, host, http2 = sys.argv[1], sys.argv[2], sys.argv[3] == "h2"
with httpx.Client(http1=not http2, http2=http2, headers={"host": host}, timeout=60) as client:
    version = "HTTP/2" if http2 else "HTTP/1.1"
    for i in range(20):
        answer = client.post(f"{url}/echo", content=b"x" * i)
        assert (answer.status_code, answer.content, answer.http_version) == (200, b"x" * i, version), answer
    with client.stream("GET", f"{url}/sse?n=3") as answer:
        assert "".join(answer.iter_text()) == "data: 0\n\ndata: 1\n\ndata: 2\n\n"

    def pieces():
        for _ in range(100):
            yield b"y" * 10_000

    answer = client.post(f"{url}/sink", content=pieces())
    assert answer.json()["bytes"] == 1_000_000, answer.text
    answer = client.get(f"{url}/status?code=418")
    assert answer.status_code == 418
print("ok")
