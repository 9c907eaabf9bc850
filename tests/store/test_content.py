from headrace.store.artifacts import content


def test_the_digest_follows_the_bytes_and_not_the_place(tmp_path):
    (tmp_path / "a").write_bytes(b"same")
    (tmp_path / "b").write_bytes(b"same")
    (tmp_path / "c").write_bytes(b"other")
    assert content.digest(tmp_path / "a") == content.digest(tmp_path / "b")
    assert content.digest(tmp_path / "a") != content.digest(tmp_path / "c")
    assert content.size(tmp_path / "c") == 5


def test_the_digest_of_a_folder_follows_names_and_contents(tmp_path):
    for name, inner in (("one", "x"), ("two", "x"), ("three", "y")):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / inner).write_text("bytes")
    assert content.digest(tmp_path / "one") == content.digest(tmp_path / "two")
    assert content.digest(tmp_path / "one") != content.digest(tmp_path / "three")
    assert content.size(tmp_path / "one") == 5
