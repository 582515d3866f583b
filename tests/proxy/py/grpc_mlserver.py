"""grpc_mlserver.py ADDR AUTHORITY: asks the iris model with mlserver's own stubs. Prints `ok` at the end."""

import sys

import grpc
from mlserver.grpc import dataplane_pb2 as pb
from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub

channel = grpc.insecure_channel(sys.argv[1], options=[("grpc.default_authority", sys.argv[2])])
stub = GRPCInferenceServiceStub(channel)
flowers = [5.1, 3.5, 1.4, 0.2, 6.0, 2.7, 4.2, 1.3, 6.5, 3.0, 5.8, 2.2]
contents = pb.InferTensorContents(fp32_contents=flowers)
tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[3, 4], contents=contents)
answer = stub.ModelInfer(pb.ModelInferRequest(model_name="iris", inputs=[tensor]), timeout=120)
assert list(answer.outputs[0].contents.int64_contents) == [0, 1, 2], answer
assert stub.ServerReady(pb.ServerReadyRequest(), timeout=60).ready
try:
    stub.ModelInfer(pb.ModelInferRequest(model_name="none", inputs=[tensor]), timeout=60)
    raise AssertionError("there is no such model")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.NOT_FOUND, error
print("ok")
