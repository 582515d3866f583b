"""grpc_client.py ADDR AUTHORITY DIR: every kind of call, as a user of grpcio makes them. Prints `ok` at the end."""

import os
import sys
import threading
import time

import grpc

addr, authority, directory = sys.argv[1:]
options = [
    ("grpc.default_authority", authority),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]
channel = grpc.insecure_channel(addr, options=options)


def method(kind, name):
    return getattr(channel, kind)("/test.Test/" + name)


# Unary, with metadata both ways, and the first of all: it may start the app.
response, call = method("unary_unary", "Unary").with_call(
    b"hello", timeout=60, metadata=[("x-data-bin", b"\x00\x01\xff"), ("x-text", "abc")]
)
assert response == b"hello"
first = dict(call.initial_metadata())
assert first["x-first"] == "1" and first["x-data-bin"] == b"\x00\x01\xff", first
last = dict(call.trailing_metadata())
assert last["x-last"] == "2" and 0 < float(last["x-left"]) <= 60, last

# Streams.
assert list(method("unary_stream", "Count")(b"1000", timeout=60)) == [str(i).encode() for i in range(1000)]
assert method("stream_unary", "Total")((b"x" * 1000 for _ in range(1000)), timeout=60) == b"1000000"
turn = threading.Semaphore(1)


def asks():
    for i in range(20):
        # Each only after the answer to the one before: nothing is held back on the way.
        assert turn.acquire(timeout=60)
        yield str(i).encode()


for i, answer in enumerate(method("stream_stream", "Chat")(asks(), timeout=60)):
    assert answer == b"re: %d" % i
    turn.release()

# Big messages.
big = os.urandom(32 << 20)
assert method("unary_unary", "Unary")(big, timeout=120) == big

# A status with text and metadata, which comes as trailers alone.
try:
    method("unary_unary", "Fail")(b"", timeout=60)
    raise AssertionError("it did not fail")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
    assert error.details() == "100 % – nö", error
    assert dict(error.trailing_metadata())["x-why-bin"] == b"\x00\xff"
try:
    method("unary_unary", "None")(b"", timeout=60)
    raise AssertionError("it did not fail")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error


def ended(path):
    deadline = time.monotonic() + 30
    while not os.path.exists(path):
        assert time.monotonic() < deadline, path + ": the app never saw the end"
        time.sleep(0.01)


# A deadline, and a cancellation that reaches the app.
path = os.path.join(directory, "deadline")
try:
    method("unary_unary", "Slow")(path.encode(), timeout=0.3)
    raise AssertionError("it did not fail")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
ended(path)
path = os.path.join(directory, "cancelled")
call = method("unary_unary", "Slow").future(path.encode())
threading.Timer(0.3, call.cancel).start()
try:
    call.result()
    raise AssertionError("it did not fail")
except grpc.FutureCancelledError:
    pass
ended(path)

# Health, by hand.
check = channel.unary_unary("/grpc.health.v1.Health/Check")
assert check(b"", timeout=60) == b"\x08\x01"

# Many at once.
calls = [method("unary_unary", "Unary").future(b"%d" % i, timeout=60) for i in range(300)]
assert [call.result() for call in calls] == [b"%d" % i for i in range(300)]
print("ok")
