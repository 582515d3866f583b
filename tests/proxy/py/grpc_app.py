"""grpc_app.py PORT: a gRPC server without generated code; messages are bytes."""

import sys
import time
from concurrent import futures

import grpc


def metadata(context):
    return {key: value for key, value in context.invocation_metadata()}


def unary(request, context):
    sent = metadata(context)
    context.send_initial_metadata([("x-first", "1"), ("x-data-bin", sent.get("x-data-bin", b""))])
    context.set_trailing_metadata([("x-last", "2"), ("x-left", str(round(context.time_remaining() or -1, 1)))])
    return request


def fail(request, context):
    context.set_trailing_metadata([("x-why-bin", b"\x00\xff")])
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "100 % – nö")


def slow(request, context):
    context.add_callback(lambda: open(request.decode(), "w").close())
    while context.is_active():
        time.sleep(0.01)


def count(request, context):
    for i in range(int(request)):
        yield str(i).encode()


def total(requests, context):
    return str(sum(len(request) for request in requests)).encode()


def chat(requests, context):
    for request in requests:
        yield b"re: " + request


def health(request, context):
    return b"\x08\x01"


METHODS = {
    "/test.Test/Unary": grpc.unary_unary_rpc_method_handler(unary),
    "/test.Test/Fail": grpc.unary_unary_rpc_method_handler(fail),
    "/test.Test/Slow": grpc.unary_unary_rpc_method_handler(slow),
    "/test.Test/Count": grpc.unary_stream_rpc_method_handler(count),
    "/test.Test/Total": grpc.stream_unary_rpc_method_handler(total),
    "/test.Test/Chat": grpc.stream_stream_rpc_method_handler(chat),
    "/grpc.health.v1.Health/Check": grpc.unary_unary_rpc_method_handler(health),
}


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return METHODS.get(details.method)


options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
server = grpc.server(futures.ThreadPoolExecutor(16), options=options)
server.add_generic_rpc_handlers([Handler()])
assert server.add_insecure_port("127.0.0.1:" + sys.argv[1])
server.start()
print("ready", flush=True)
server.wait_for_termination()
