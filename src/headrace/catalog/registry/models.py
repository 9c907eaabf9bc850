"""Models in MLflow's registry: champions and challengers, wherever the tracking server is.

https://mlflow.org/docs/latest/ml/model-registry/ . `import mlflow` takes about a second or more, so it happens on use.
Threads may come to that at the same time. One that imports a part of it first may leave all of them with half of it for
good, since Python breaks the tie when two imports wait for each other: in a server, `import mlflow` itself comes first.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from headrace.errors import HeadraceError, NotFoundError, UsageError

CHAMPION, CHALLENGER = "champion", "challenger"
CHECK_SECONDS = 3.0
# What MLflow answers for an unknown model or version, and for an unknown alias.
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
# What KServe's own servers look for in a folder: scikit-learn, XGBoost, LightGBM and ONNX models.
_MODEL_FILES = (".joblib", ".pkl", ".pickle", ".skops", ".bst", ".json", ".ubj", ".txt", ".onnx")
# Those that MLflow fetches from; hf, oci and pvc of KServe are not among them.
_SCHEMES = ("models", "runs", "mlflow-artifacts", "http", "https", "s3", "gs", "wasbs", "abfss", "hdfs", "dbfs")
_MODEL = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/]+))")


@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model; `uri` names it for good: `models:/NAME/3`."""

    name: str
    version: int
    run_id: str
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"


class ModelRegistry:
    """MLflow at one tracking address: `sqlite:///…` for the embedded one, or the URL of a server."""

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri

    def check(self) -> None:
        """See that it can be reached, quickly.

        Raises:
            UsageError: a server that does not answer, or an address of an unknown kind.
        """
        remedy = "Correct `mlflow` in headrace.toml, or leave it out for the embedded one."
        if self.tracking_uri.startswith("sqlite:///"):
            return
        if not self.tracking_uri.startswith(("http://", "https://")):
            raise UsageError("must be the URL of an MLflow server", where=self.tracking_uri, remedy=remedy)
        try:
            with urllib.request.urlopen(f"{self.tracking_uri.rstrip('/')}/health", timeout=CHECK_SECONDS):
                pass
        except (urllib.error.URLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise UsageError(f"MLflow does not answer: {reason}", where=self.tracking_uri, remedy=remedy) from error

    @cached_property
    def client(self) -> Any:
        """MLflow's own client. The first use of an embedded one makes its tables."""
        self.check()
        import mlflow

        # That it makes its tables is nothing that a user has to know.
        logging.getLogger("mlflow.store.db").setLevel(logging.WARNING)
        mlflow.set_tracking_uri(self.tracking_uri)
        with _alone(self.tracking_uri):
            _make_store(self.tracking_uri)
            client = mlflow.MlflowClient(self.tracking_uri)
            client.search_registered_models(max_results=1)
        return client

    def version(self, uri: str) -> ModelVersion:
        """The version that `models:/NAME/3` or `models:/NAME@champion` names.

        Raises:
            NotFoundError: no such model, version or alias.
            UsageError: not such an address.
            HeadraceError: MLflow fails.
        """
        found = _MODEL.fullmatch(uri)
        if found is None:
            raise UsageError(
                f"{uri!r} does not name a model version", remedy="Write models:/NAME/VERSION or models:/NAME@ALIAS."
            )
        import mlflow

        try:
            if found["alias"]:
                told = self.client.get_model_version_by_alias(found["name"], found["alias"])
            else:
                told = self.client.get_model_version(found["name"], found["version"])
        except mlflow.MlflowException as error:
            if error.error_code not in _ABSENT:
                raise HeadraceError(f"MLflow fails: {error}", where=self.tracking_uri) from error
            raise NotFoundError(
                f"the registry has no model {uri}",
                where=self.tracking_uri,
                remedy="A pipeline registers one; the MLflow page shows what there is.",
            ) from error
        return ModelVersion(told.name, int(told.version), told.run_id or "", dict(told.tags))

    def champion(self, name: str) -> ModelVersion | None:
        """The version of a model that serves now, if any."""
        try:
            return self.version(f"models:/{name}@{CHAMPION}")
        except NotFoundError:
            return None

    def folder(self, uri: str) -> Path:
        """A local folder (or file) with the model; of a remote one, a copy that MLflow keeps.

        Raises:
            HeadraceError: the files cannot be had.
        """
        if uri.startswith("file://"):
            uri = urllib.parse.unquote(uri.removeprefix("file://"))
        if "://" not in uri and not uri.startswith(("models:/", "runs:/")):
            return _local(Path(uri))
        _refuse_scheme(uri)
        import mlflow

        client = self.client
        try:
            source = client.get_model_version_download_uri(*_named(self.version(uri))) if _MODEL.match(uri) else uri
            return Path(mlflow.artifacts.download_artifacts(artifact_uri=source, tracking_uri=self.tracking_uri))
        except mlflow.MlflowException as error:
            raise HeadraceError(f"the model's files cannot be had: {error}", where=uri) from error
        except ModuleNotFoundError as error:
            package = {"botocore": "boto3", "google": "google-cloud-storage"}.get(error.name or "", error.name)
            raise UsageError(
                f"{uri} needs the package {package}, which is not installed",
                remedy=f"Install it beside headrace: uv pip install '{package}'",
            ) from error

    def pinned(self, uri: str) -> str:
        """An address that always means the same model: aliases become version numbers."""
        return self.version(uri).uri if uri.startswith("models:/") else uri

    def promoted(self, model_uri: str) -> None:
        """It serves now: it becomes the champion, and is no challenger any more. Idempotent."""
        if _MODEL.fullmatch(model_uri) is None:
            return
        version = self.version(model_uri)
        self.client.set_registered_model_alias(version.name, CHAMPION, str(version.version))
        self.client.set_model_version_tag(version.name, str(version.version), "headrace.rollout", "passed")
        self._drop_challenger(version)

    def rejected(self, model_uri: str, reason: str) -> None:
        """It was rolled back: it is marked, and is no challenger any more. Idempotent."""
        if _MODEL.fullmatch(model_uri) is None:
            return
        version = self.version(model_uri)
        self.client.set_model_version_tag(version.name, str(version.version), "headrace.rollout", "failed")
        self.client.set_model_version_tag(version.name, str(version.version), "headrace.reason", reason[:5000])
        self._drop_challenger(version)

    def _drop_challenger(self, version: ModelVersion) -> None:
        try:
            challenger = self.version(f"models:/{version.name}@{CHALLENGER}")
        except NotFoundError:
            return
        if challenger.version == version.version:
            self.client.delete_registered_model_alias(version.name, CHALLENGER)

    def register(
        self,
        name: str,
        model: Path,
        *,
        key: str,
        run_name: str,
        parameters: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        beside: Path | None = None,
    ) -> ModelVersion:
        """Log a saved model with what is known about it, register it, and make it the challenger.

        `beside`: a folder whose files are put beside the model's own. The same `key` again returns the version that was
        made the first time.

        Raises:
            HeadraceError: MLflow refuses it.
        """
        import mlflow

        client = self.client
        try:
            known = client.search_model_versions(f"name = '{name}' and tag.`headrace.key` = '{key}'")
            if known:
                return self._challenge(self.version(f"models:/{name}/{known[0].version}"))
            with mlflow.start_run(experiment_id=self.experiment(name), run_name=run_name, tags=dict(tags)) as run:
                mlflow.log_params({key: str(value)[:500] for key, value in parameters.items()})
                mlflow.log_metrics(dict(metrics))
                mlflow.log_artifacts(str(model), "model")
                if beside is not None:
                    mlflow.log_artifacts(str(beside), "model")
            if not client.search_registered_models(f"name = '{name}'"):
                client.create_registered_model(name)
            made = client.create_model_version(
                name, f"{run.info.artifact_uri}/model", run.info.run_id, tags={**tags, "headrace.key": key}
            )
            return self._challenge(self.version(f"models:/{name}/{made.version}"))
        except mlflow.MlflowException as error:
            raise HeadraceError(f"MLflow refuses the model: {error}", where=self.tracking_uri) from error

    def _challenge(self, version: ModelVersion) -> ModelVersion:
        """Make it the challenger, unless a newer one is, or a rollout has judged it already."""
        try:
            newest = self.version(f"models:/{version.name}@{CHALLENGER}").version
        except NotFoundError:
            newest = 0
        if version.version > newest and "headrace.rollout" not in version.tags:
            self.client.set_registered_model_alias(version.name, CHALLENGER, str(version.version))
        return version

    def experiment(self, name: str) -> str:
        """The id of the experiment of that name, made when it is not there."""
        known = self.client.get_experiment_by_name(name)
        if known:
            return str(known.experiment_id)
        embedded = self.tracking_uri.startswith("sqlite:///")
        # An embedded MLflow would put the files below the current folder.
        place = Path(self.tracking_uri.removeprefix("sqlite:///")).parent / "mlruns" / name if embedded else None
        return str(self.client.create_experiment(name, artifact_location=str(place) if place else None))


def _named(version: ModelVersion) -> tuple[str, str]:
    return version.name, str(version.version)


def _local(place: Path) -> Path:
    files = [place, *place.iterdir()] if place.is_dir() else [place]
    if not any(file.is_file() and (file.name == "MLmodel" or file.suffix in _MODEL_FILES) for file in files):
        raise UsageError(
            "there is no model here", where=str(place),
            remedy="Give a folder with an MLmodel or a model's file, models:/NAME/VERSION, or an address that "
            "[storage.aliases] in headrace.toml knows.",
        )  # fmt: skip
    return place.resolve()


def _refuse_scheme(uri: str) -> None:
    scheme = uri.partition(":")[0]
    if scheme not in _SCHEMES:
        raise UsageError(
            f"models cannot be fetched from {scheme} addresses here",
            where=uri,
            remedy="Fetch it yourself, and say under [storage.aliases] in headrace.toml where it lies.",
        )


def _make_store(tracking_uri: str) -> None:
    """Make the tables of an embedded MLflow under another name, and move them into place when they are whole.

    MLflow makes them in many steps, and cannot go on with what it finds when it was killed between two of them.
    """
    place = Path(tracking_uri.removeprefix("sqlite:///"))
    if not tracking_uri.startswith("sqlite:///") or place.exists():
        return
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    making = place.with_name(f"{place.name}.new")
    for left in (making, place.with_name(f"{making.name}-journal")):
        left.unlink(missing_ok=True)
    SqlAlchemyStore(f"sqlite:///{making}").engine.dispose()
    making.rename(place)


@contextmanager
def _alone(tracking_uri: str) -> Iterator[None]:
    """One process at a time makes the tables of an embedded MLflow: its migrations do not bear company."""
    if not tracking_uri.startswith("sqlite:///"):
        yield
        return
    path = tracking_uri.removeprefix("sqlite:///") + ".lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
