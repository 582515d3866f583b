"""triton_app.py PORT: the Open Inference Protocol over gRPC; answers tell which model was asked for, and how often."""
import sys
from concurrent import futures

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc


class App(service_pb2_grpc.GRPCInferenceServiceServicer):
    def ModelReady(self, request, context):
        return service_pb2.ModelReadyResponse(ready=request.name != "")

    def ModelMetadata(self, request, context):
        return service_pb2.ModelMetadataResponse(name=request.name, platform="test")

    def ModelInfer(self, request, context):
        contents = list(request.raw_input_contents)
        outputs = [{"name": "out", "datatype": i.datatype, "shape": i.shape} for i in request.inputs]
        return service_pb2.ModelInferResponse(
            model_name=request.model_name, id=request.id, outputs=outputs, raw_output_contents=contents
        )

    def ModelStreamInfer(self, requests, context):
        for request in requests:
            yield service_pb2.ModelStreamInferResponse(infer_response=self.ModelInfer(request, context))


server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)])
service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(App(), server)
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
server.wait_for_termination()
