import pytest

from headrace.errors import UsageError
from headrace.project.compile import compile_pipeline

PIPELINE = """
from kfp import dsl
from beside import RIGHT

@dsl.component
def add(a: int, b: int) -> int:
    return a + b

@dsl.pipeline(name="sum")
def total(a: int = 1) -> int:
    return add(a=a, b=RIGHT).output
"""


@pytest.mark.parametrize("name", ["random.py", "types.py", "kfp.py"])
def test_a_file_may_have_the_name_of_another_module_and_import_what_is_beside_it(tmp_path, name):
    (tmp_path / name).write_text(PIPELINE)
    (tmp_path / "beside.py").write_text("RIGHT = 2\n")
    assert "name: sum" in compile_pipeline(tmp_path / name)


def test_what_a_file_prints_and_raises_does_not_hide_where_it_went_wrong(tmp_path):
    (tmp_path / "odd.py").write_text('print("{")\n\nraise KeyError("{")\n')
    with pytest.raises(UsageError, match=r"KeyError: '\{'") as caught:
        compile_pipeline(tmp_path / "odd.py")
    assert caught.value.where == f"{tmp_path / 'odd.py'}:3"


def test_a_missing_package_comes_with_the_line_that_installs_it(tmp_path):
    (tmp_path / "needy.py").write_text("import no_such_thing.inner\n")
    with pytest.raises(UsageError, match="No module named 'no_such_thing'") as caught:
        compile_pipeline(tmp_path / "needy.py")
    assert "uv pip install no_such_thing)" in caught.value.remedy
