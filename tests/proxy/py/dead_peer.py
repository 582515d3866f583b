"""dead_peer.py PORT: HTTP/2 with prior knowledge. Falls silent for good on the first connection that carries a request,
like a host without power: the kernel drops whatever comes for that socket and sends nothing. Answers 204 on later ones."""

import ctypes
import socket
import struct
import sys
import threading

SO_ATTACH_FILTER = 26
SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
first = threading.Lock()


def read(conn, count):
    data = b""
    while len(data) < count:
        more = conn.recv(count - len(data))
        if not more:
            raise ConnectionError
        data += more
    return data


def drop_everything(conn):
    # One BPF instruction: return 0 bytes of every packet.
    code = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    conn.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(code)))


def serve(conn):
    try:
        read(conn, 24)
        conn.sendall(SETTINGS)
        while True:
            head = read(conn, 9)
            payload = read(conn, int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], head[5:]
            if kind == 4 and not flags & 1:
                conn.sendall(bytes([0, 0, 0, 4, 1, 0, 0, 0, 0]))
            if kind == 1:
                if first.acquire(blocking=False):
                    drop_everything(conn)
                    return threading.Event().wait()
                conn.sendall(bytes([0, 0, 1, 1, 5]) + stream + b"\x89")
    except OSError:
        conn.close()


listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
