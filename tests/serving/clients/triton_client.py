"""NVIDIA's Triton clients against a server: run in an environment that has `tritonclient`; prints what they were
answered."""

import json
import sys

import numpy as np
import tritonclient.grpc
import tritonclient.http

FLOWERS = np.array([[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]], dtype=np.float32)


def tensor(module, table=FLOWERS, **more):
    made = module.InferInput("input-0", list(table.shape), "FP32")
    made.set_data_from_numpy(table, **more)
    return made


def refused(call):
    try:
        call()
    except tritonclient.utils.InferenceServerException as error:
        return [error.status(), error.message()]
    return "answered"


def both(module, address):
    client = module.InferenceServerClient(address)
    (answer,) = [client.infer("iris", [tensor(module)], request_id="7")]
    metadata = client.get_model_metadata("iris", **({"as_json": True} if module is tritonclient.grpc else {}))
    return client, {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model ready": [client.is_model_ready("iris"), client.is_model_ready("iris", "iris-00001")],
        "metadata": metadata,
        "answer": answer.as_numpy("output-0").tolist(),
        "version": client.infer("iris", [tensor(module)], model_version="iris-00001").as_numpy("output-0").tolist(),
        "unknown version": refused(lambda: client.infer("iris", [tensor(module)], model_version="9")),
        "wrong width": refused(lambda: client.infer("iris", [tensor(module, FLOWERS[:, :3])])),
        "unknown output": refused(
            lambda: client.infer("iris", [tensor(module)], outputs=[module.InferRequestedOutput("nope")])
        ),
    }


def rest(address):
    client, found = both(tritonclient.http, address)
    asked = [tritonclient.http.InferRequestedOutput("output-0", binary_data=False)]
    packed = {"request_compression_algorithm": "gzip"}
    found["json"] = (
        client.infer("iris", [tensor(tritonclient.http, binary_data=False)], outputs=asked)
        .as_numpy("output-0")
        .tolist()
    )
    found["gzip"] = client.infer("iris", [tensor(tritonclient.http)], **packed).as_numpy("output-0").tolist()
    found["index"] = client.get_model_repository_index()
    client.unload_model("iris")
    found["unloaded"] = [client.is_model_ready("iris"), client.is_server_ready()]
    found["asked while unloaded"] = refused(lambda: client.infer("iris", [tensor(tritonclient.http)]))
    client.load_model("iris")
    found["loaded"] = client.is_model_ready("iris")
    return found


print(json.dumps({"rest": rest(sys.argv[1]), "grpc": both(tritonclient.grpc, sys.argv[2])[1]}))
