"""The V2 protocol over gRPC, with grpcio's own client and the codes of the protocol."""

import struct

import grpc
import pytest

from headrace.serving.runtime.grpc_stubs import messages

FLOWERS = [6.8, 2.8, 4.8, 1.4, 6.0, 3.4, 4.5, 1.6]
SERVICE = "/inference.GRPCInferenceService"


@pytest.fixture
def call(kept, models):
    """Calls a method of a server with the iris model."""
    server = kept("--model-path", models.iris, "--max-concurrency", 8, grpc=True)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:

        def ask(method, request=None, **metadata):
            request = request or getattr(messages, f"{method}Request")()
            made = channel.unary_unary(
                f"{SERVICE}/{method}", request_serializer=type(request).SerializeToString,
                response_deserializer=getattr(messages, f"{method}Response").FromString,
            )  # fmt: skip
            return made(request, timeout=30, metadata=list(metadata.items()))

        yield ask


def infer(raw=False, **changed):
    request = messages.ModelInferRequest(model_name=changed.pop("model", "iris"), id=changed.pop("id", ""))
    request.model_version = changed.pop("version", "")
    given = {"name": "x", "datatype": "FP32", "shape": [2, 4], **changed}
    values = given.pop("values", FLOWERS)
    tensor = request.inputs.add(**given)
    if raw:
        request.raw_input_contents.append(struct.pack(f"<{len(values)}f", *values))
    else:
        tensor.contents.fp32_contents.extend(values)
    return request


def test_it_tells_of_itself_and_its_model(call):
    assert call("ServerLive").live
    assert call("ServerReady").ready
    assert call("ModelReady", messages.ModelReadyRequest(name="iris", version="iris-00001")).ready
    assert call("ServerMetadata").name == "headrace"
    told = call("ModelMetadata", messages.ModelMetadataRequest(name="iris"))
    assert (list(told.versions), told.platform) == (["iris-00001"], "sklearn_mlflow")
    assert [(one.name, one.datatype, list(one.shape)) for one in told.inputs] == [("input-0", "FP64", [-1, 4])]


def test_contents_are_answered_with_contents_and_raw_with_raw(call):
    told = call("ModelInfer", infer(id="42"))
    assert (told.model_name, told.model_version, told.id) == ("iris", "iris-00001", "42")
    (output,) = told.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("output-0", "INT64", [2])
    assert list(output.contents.int64_contents) == [1, 1]
    raw = call("ModelInfer", infer(raw=True))
    assert list(struct.unpack("<2q", raw.raw_output_contents[0])) == [1, 1]
    assert call("ModelInfer", infer(), **{"x-request-id": "of-the-gateway"}).id == "of-the-gateway"


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (infer(model="nope"), "NOT_FOUND", "Model with name nope does not exist."),
        (infer(version="9"), "NOT_FOUND", "Model iris has no version 9, only iris-00001."),
        (infer(shape=[2, 3]), "INVALID_ARGUMENT", "Input x has 8 values, its shape wants 6"),
        (infer(raw=True, shape=[2, 3]), "INVALID_ARGUMENT", "Input x has 32 bytes, its shape and datatype want 24"),
        (infer(datatype="NOPE"), "INVALID_ARGUMENT", "Input x has an unknown datatype: 'NOPE'"),
        (infer(datatype="FP64"), "INVALID_ARGUMENT", "Input x of FP64 wants its values in contents.fp64_contents"),
        (infer(shape=[-1, 4]), "INVALID_ARGUMENT", "Input x wants a shape that is a list of whole numbers"),
        (infer(values=[float("nan")] * 8), "INVALID_ARGUMENT", "The model takes no missing or infinite numbers"),
        (
            messages.ModelInferRequest(model_name="iris"),
            "INVALID_ARGUMENT",
            'Expected "inputs" to be a list of tensors',
        ),
    ],
)
def test_mistakes_have_the_codes_of_the_protocol(call, request_, code, words):
    with pytest.raises(grpc.RpcError) as caught:
        call("ModelInfer", request_)
    assert caught.value.code().name == code
    assert words in caught.value.details()


def test_an_unloaded_model_is_unavailable_until_it_is_loaded(call):
    assert call("RepositoryModelUnload", messages.RepositoryModelUnloadRequest(model_name="iris")).isUnloaded
    assert not call("ServerReady").ready
    with pytest.raises(grpc.RpcError) as caught:
        call("ModelInfer", infer())
    assert caught.value.code().name == "UNAVAILABLE"
    assert call("RepositoryModelLoad", messages.RepositoryModelLoadRequest(model_name="iris")).isLoaded
    assert call("ModelInfer", infer()).model_name == "iris"


def test_what_the_model_raises_is_internal(running, models):
    server = running("--model-path", models.delay, name="delay", grpc=True)
    request = messages.ModelInferRequest(model_name="delay")
    for name, datatype, field, value in [
        ("carrier", "BYTES", "bytes_contents", b"ZZ"), ("distance", "FP64", "fp64_contents", 500.0),
        ("hour", "INT64", "int64_contents", 7), ("dep_delay", "FP64", "fp64_contents", 0.0),
    ]:  # fmt: skip
        tensor = request.inputs.add(name=name, datatype=datatype, shape=[1, 1])
        getattr(tensor.contents, field).append(value)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        ask = channel.unary_unary(
            f"{SERVICE}/ModelInfer", request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )  # fmt: skip
        with pytest.raises(grpc.RpcError) as caught:
            ask(request, timeout=30)
    assert caught.value.code().name == "INTERNAL"
    assert caught.value.details().startswith("ValueError: Found unknown categories ['ZZ']")
