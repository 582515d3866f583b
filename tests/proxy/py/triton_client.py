"""triton_client.py ADDR MODEL: the model by its name alone, on a shared host. Prints `ok` at the end."""
import queue
import sys

import grpc
import numpy
import tritonclient.grpc as triton

addr, model = sys.argv[1:]
client = triton.InferenceServerClient(addr)


def values(n):
    data = numpy.arange(n, dtype=numpy.int64)
    tensor = triton.InferInput("in", [n], "INT64")
    tensor.set_data_from_numpy(data)
    return data, [tensor]


# The first of all: it starts the app. Then one whose message is much longer than what is read for the name.
for n in (3, 100_000):
    data, inputs = values(n)
    answer = client.infer(model, inputs, client_timeout=60)
    assert answer.get_response().model_name == model
    assert (answer.as_numpy("out") == data).all()
assert client.is_model_ready(model, client_timeout=60)
assert client.get_model_metadata(model, client_timeout=60).name == model

answers = queue.Queue()
client.start_stream(lambda result, error: answers.put((result, error)))
data, inputs = values(5)
for i in range(3):
    client.async_stream_infer(model, inputs, request_id=str(i))
    result, error = answers.get(timeout=60)
    assert error is None and result.get_response().id == str(i), error
client.stop_stream()


def fails(call, code, text):
    try:
        call()
    except triton.InferenceServerException as error:
        assert error.status() == f"StatusCode.{code}" and text in error.message(), (error.status(), error.message())
        return
    raise AssertionError("it did not fail")


fails(lambda: client.infer("nobody", values(1)[1]), "UNIMPLEMENTED", f"known: {model}")
fails(lambda: client.infer("", values(1)[1]), "INVALID_ARGUMENT", "no name of a model")
fails(client.is_server_ready, "UNIMPLEMENTED", "this one names none")
fails(
    lambda: client.infer(model, values(10_000)[1], compression_algorithm="gzip"), "INVALID_ARGUMENT", "compressed"
)
print("ok")
