import warnings

import pytest

from headrace.catalog.registry import ModelRegistry
from headrace.store.home import Home


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """MLflow's embedded registry, with its tables made."""
    folder = tmp_path_factory.mktemp("registry")
    with warnings.catch_warnings():
        # MLflow and its libraries warn of each other while they are imported and make the tables.
        warnings.simplefilter("ignore")
        registry = ModelRegistry(Home(folder).mlflow_uri)
        _ = registry.client
    return registry
