"""The install prelude as each generation of the SDK writes it, and as an author can bend it."""

from functools import partial

import pytest
from kfp import dsl

from headrace.runs.prelude import Requirements, requirements

component = partial(dsl.component, base_image="python:3.12")

PIP = "python3 -m pip install --quiet --no-warn-script-location "
SDK = "'kfp==2.14.3' '--no-deps' 'typing-extensions>=3.7.4,<5; python_version<\"3.9\"'"
START = '\nif ! [ -x "$(command -v pip)" ]; then\n    python3 -m ensurepip || apt-get install python3-pip\nfi\n\n'


def command(*installs):
    line = "PIP_DISABLE_PIP_VERSION_CHECK=1 " + "  &&  ".join(PIP + packages for packages in installs)
    return ["sh", "-c", f'{START}{line} && "$0" "$@"\n', "sh", "-ec", "program_path=$(mktemp -d)", "code"]


@pytest.mark.parametrize(
    ("installs", "wanted"),
    [
        ([SDK], Requirements()),
        ([SDK, "'pandas==2.2.0'"], Requirements(("pandas==2.2.0",))),
        (["'pandas==2.2.0' 'numpy'", SDK], Requirements(("pandas==2.2.0", "numpy"))),
        (["'kfp==2.0.1' 'pandas>=2'"], Requirements(("pandas>=2",))),
        (["'kfp[notebooks]==2.14.3' 'pandas'", SDK], Requirements(("kfp[notebooks]==2.14.3", "pandas"))),
        (["'kfp[notebooks]'", SDK], Requirements(("kfp[notebooks]",))),
        (["'pandas' '--no-deps'", SDK], Requirements(("pandas",), options=("--no-deps",))),
        (["'pandas'", "'/src/kfp' '--no-deps'"], Requirements(("pandas",))),
        (["'a&&b' 'c'", SDK], Requirements(("a&&b", "c"))),
    ],
)
def test_the_packages_of_the_author_are_told_from_those_of_the_sdk(installs, wanted):
    assert requirements(command(*installs)) == wanted


@component(packages_to_install=["six"], pip_index_urls=["https://a.example/s"], use_venv=True)
def in_a_venv() -> int:
    return 1


@component(packages_to_install=["six"], kfp_package_path="git+https://a.example/kfp@refs/pull/1/merge")
def with_another_sdk() -> int:
    return 1


@component(packages_to_install=["six"], install_kfp_package=False)
def without_sdk() -> int:
    return 1


@pytest.mark.parametrize("wanted", [in_a_venv, with_another_sdk, without_sdk])
def test_what_the_sdk_writes_now_is_read(document, wanted):
    container = document(wanted).executor_of(f"comp-{wanted.name}").container
    assert requirements(list(container.command)).packages == ("six",)
