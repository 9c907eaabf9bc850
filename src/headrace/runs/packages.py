"""A pipeline package as it is uploaded: YAML or JSON, alone or as pipeline.yaml in a .zip or .tar.gz.

The format is told by the name and the first bytes, as KFP's API server does it (apiserver/server/util.go).
"""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from headrace.errors import UsageError

MAX_BYTES = 32 * 1024 * 1024  # KFP's
_PIPELINE_FILE = "pipeline.yaml"
_YAML = (".yaml", ".yml")
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError)


def read_package(name: str, data: bytes) -> str:
    """The pipeline's text in a package, as it was written.

    Raises:
        UsageError: the package is broken, too large or of another format, or holds no pipeline file.
    """
    try:
        if name.endswith((*_YAML, ".json")):
            found = data
        elif data[:2] == b"PK":
            found = _from_zip(data)
        elif data[:2] == b"\x1f\x8b":
            found = _from_tar(data)
        else:
            raise UsageError(
                "Unexpected pipeline file format", where=name, remedy="Support .zip, .tar.gz, .json or YAML."
            )
    except _BROKEN as error:
        raise UsageError(f"the package cannot be read: {error}", where=name, remedy="Pack it again.") from error
    if len(found) > MAX_BYTES:
        raise UsageError(
            f"the pipeline is larger than {MAX_BYTES // 1024 // 1024} MiB",
            where=name,
            remedy="Move large embedded files, notebooks or Python code elsewhere.",
        )
    try:
        return found.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"the pipeline is not UTF-8 text: {error}", where=name, remedy="Compile it again.") from error


def spec_json(text: str) -> dict[str, Any]:
    """A pipeline that was parsed once, as the API's `pipeline_spec`.

    The IR itself; `{"pipeline_spec": …, "platform_spec": …}` where the package has a platform document
    (YamlStringToPipelineSpecStruct in KFP's apiserver/server/api_util.go).
    """
    spec: dict[str, Any] = json.loads(_spec_text(text))
    return spec


def spec_text(spec: Mapping[str, Any]) -> str:
    """The API's `pipeline_spec` as a package's text: one YAML document, or two with a platform document."""
    if "pipeline_spec" not in spec:
        return _dump(spec)
    texts = [_dump(spec[part]) for part in ("pipeline_spec", "platform_spec") if spec.get(part)]
    return "---\n".join(texts)


@lru_cache(maxsize=64)
def _spec_text(text: str) -> str:
    spec, *followers = _documents(text)
    if followers:
        spec = {"pipeline_spec": spec, "platform_spec": followers[0]}
    return json.dumps(spec, default=str)


def _documents(text: str) -> list[Any]:
    import yaml

    # YAML reads 1e-05 as text, JSON as the number that it is.
    if text.startswith("{"):
        with contextlib.suppress(ValueError):
            return [json.loads(text)]
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [document for document in yaml.load_all(text, Loader=loader) if document is not None]


def _dump(document: Any) -> str:
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(document, Dumper=dumper, sort_keys=False)
    return text


def _from_zip(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(_choose(archive.namelist())) as stream:
        return stream.read(MAX_BYTES + 1)


def _from_tar(data: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        chosen = _choose([member.name for member in archive if member.isfile()])
        stream = archive.extractfile(chosen)
        assert stream is not None, "it is a regular file"
        with stream:
            return stream.read(MAX_BYTES + 1)


def _choose(names: Sequence[str]) -> str:
    files = [name for name in names if name.endswith(_YAML)]
    if _PIPELINE_FILE in files:
        return _PIPELINE_FILE
    if len(files) == 1:
        return files[0]
    found = ", ".join(files) if files else "none"
    raise UsageError(
        f"Expecting a pipeline.yaml file inside the package. Got: {found}",
        remedy="Put one compiled pipeline into it, as pipeline.yaml.",
    )
