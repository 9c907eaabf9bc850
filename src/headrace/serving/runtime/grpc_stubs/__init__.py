"""The messages of the Open Inference Protocol over gRPC, as open_inference.proto has them.

They live in a descriptor pool of their own: a team's code in the same process may import kserve or tritonclient, which
bring the same names.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def _made() -> Any:
    files = descriptor_pb2.FileDescriptorSet.FromString(Path(__file__).with_name("open_inference.desc").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    (file,) = files.file
    pool.Add(file)
    described = pool.FindFileByName(file.name)
    return SimpleNamespace(
        **{name: message_factory.GetMessageClass(one) for name, one in described.message_types_by_name.items()}
    )


messages = _made()
