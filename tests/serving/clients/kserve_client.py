"""KServe's own clients against a server: run in an environment that has `kserve`; prints what they were answered."""

import asyncio
import json
import logging
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

logging.disable(logging.CRITICAL)  # the client logs each error that it is answered
FLOWERS = np.array([[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]], dtype=np.float32)


def request(table, *, binary, **more):
    tensor = InferInput(name="input-0", shape=list(table.shape), datatype="FP32")
    tensor.set_data_from_numpy(table, binary_data=binary)
    return InferRequest(model_name="iris", infer_inputs=[tensor], **more)


def told(answer):
    (output,) = answer.outputs
    return [output.name, output.datatype, output.as_numpy().tolist()]


async def rest(base):
    v1 = InferenceRESTClient(RESTConfig(protocol="v1", retries=0))
    v2 = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    binary = [RequestedOutput("output-0", parameters={"binary_data": True})]
    return {
        "live": await v2.is_server_live(base),
        "ready": await v2.is_server_ready(base),
        "model ready": [await v1.is_model_ready(base, "iris"), await v2.is_model_ready(base, "iris")],
        "v1": await v1.infer(base, {"instances": FLOWERS.tolist()}, model_name="iris"),
        "json": told(await v2.infer(base, request(FLOWERS, binary=False), model_name="iris")),
        "binary": told(await v2.infer(base, request(FLOWERS, binary=True, request_outputs=binary), model_name="iris")),
    }


async def grpc(address):
    client = InferenceGRPCClient(address, retries=0)
    found = {
        "live": await client.is_server_live(),
        "ready": await client.is_server_ready(),
        "model ready": await client.is_model_ready("iris"),
        "contents": told(await client.infer(request(FLOWERS, binary=False))),
        "raw": told(await client.infer(request(FLOWERS, binary=True))),
    }
    for name, asked in {
        "wrong width": request(FLOWERS[:, :3], binary=True),
        "unknown": InferRequest(model_name="nope", infer_inputs=request(FLOWERS, binary=True).inputs),
    }.items():
        try:
            await client.infer(asked)
        except Exception as error:  # noqa: BLE001 - which one depends on the client's transport
            found[name] = [error.code().name, error.details()]
    return found


print(json.dumps({"rest": asyncio.run(rest(sys.argv[1])), "grpc": asyncio.run(grpc(sys.argv[2]))}))
