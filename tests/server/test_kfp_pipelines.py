"""Pipelines and versions through the unmodified `kfp.Client`."""

import io
import tarfile
import zipfile

import kfp_server_api
import pytest
import yaml

BASE = "/apis/v2beta1"


@pytest.fixture
def uploaded(client, packages, name):
    return client.upload_pipeline(str(packages("total")), name, description="adds")


def test_a_pipeline_is_uploaded_with_a_first_version(client, uploaded, name, packages):
    assert (uploaded.name, uploaded.display_name, uploaded.description) == (name, name, "adds")
    assert client.get_pipeline(uploaded.pipeline_id) == uploaded
    assert client.get_pipeline_id(name) == uploaded.pipeline_id
    assert client.get_pipeline_id("nobody's") is None
    (version,) = client.list_pipeline_versions(uploaded.pipeline_id).pipeline_versions
    assert (version.pipeline_id, version.display_name) == (uploaded.pipeline_id, name)
    assert version.pipeline_spec == yaml.safe_load(packages("total").read_text())
    assert client.get_pipeline_version(uploaded.pipeline_id, version.pipeline_version_id) == version


def test_names_are_unique(client, uploaded, name, packages, refused):
    told = refused(409, client.upload_pipeline, str(packages("total")), name)
    assert (told["code"], f"The pipeline {name} already exists" in told["message"]) == (6, True)
    told = refused(409, client.upload_pipeline_version, str(packages("total")), name, uploaded.pipeline_id)
    assert f"The pipeline version {name} already exists" in told["message"]


def test_versions_are_added_listed_and_deleted_before_their_pipeline(client, uploaded, packages, name, refused):
    second = client.upload_pipeline_version(str(packages("tree")), "second", pipeline_name=name, description="a tree")
    assert (second.display_name, second.description) == ("second", "a tree")
    listed = client.list_pipeline_versions(uploaded.pipeline_id, sort_by="created_at desc", page_size=50)
    assert {v.display_name for v in listed.pipeline_versions} == {name, "second"}
    assert listed.total_size == 2
    told = refused(400, client.delete_pipeline, uploaded.pipeline_id)
    assert "existing pipeline versions" in told["message"]
    for version in listed.pipeline_versions:
        assert client.delete_pipeline_version(uploaded.pipeline_id, version.pipeline_version_id) == {}
    assert client.list_pipeline_versions(uploaded.pipeline_id).pipeline_versions == []
    assert client.delete_pipeline(uploaded.pipeline_id) == {}
    refused(404, client.get_pipeline, uploaded.pipeline_id)


def test_a_pipeline_goes_with_its_versions_when_that_is_asked_for(client, served, uploaded, refused):
    assert served.send("DELETE", f"{BASE}/pipelines/{uploaded.pipeline_id}?cascade=true") == (200, {})
    refused(404, client.list_pipeline_versions, uploaded.pipeline_id)


def test_what_is_not_there_is_not_found(client, packages, refused):
    assert refused(404, client.get_pipeline, "nowhere")["code"] == 5
    refused(404, client.list_pipeline_versions, "nowhere")
    refused(404, client.get_pipeline_version, "nowhere", "none")
    refused(404, client.delete_pipeline, "nowhere")
    refused(404, client.delete_pipeline_version, "nowhere", "none")
    refused(404, client.upload_pipeline_version, str(packages("total")), "v", "nowhere")
    refused(400, client.upload_pipeline_version, str(packages("total")), "v", pipeline_name="nobody's")


def _zip(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def _tar(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    return buffer.getvalue()


@pytest.mark.parametrize(("suffix", "pack"), [(".zip", _zip), (".tar.gz", _tar)])
@pytest.mark.parametrize("inside", ["pipeline.yaml", "other.yaml"])
def test_packed_pipelines_are_unpacked(client, packages, name, tmp_path, suffix, pack, inside):
    package = tmp_path / f"package{suffix}"
    files = {"README.md": b"hello", inside: packages("total").read_bytes()}
    if inside == "pipeline.yaml":
        files["another.yaml"] = b"a: 1"
    package.write_bytes(pack(files))
    pipeline = client.upload_pipeline(str(package), name)
    (version,) = client.list_pipeline_versions(pipeline.pipeline_id).pipeline_versions
    assert version.pipeline_spec["pipelineInfo"] == {"name": "sum"}


def test_a_platform_document_comes_through_upload_and_run_to_the_byte(client, served, packages, name, tmp_path):
    written = b"# as it came\r\n" + packages("cluster").read_bytes().replace(b"\n---\n", b"\n--- # the platform\n")
    package = tmp_path / "cluster.yaml"
    package.write_bytes(written)
    pipeline = client.upload_pipeline(str(package), name)
    (version,) = client.list_pipeline_versions(pipeline.pipeline_id).pipeline_versions
    assert set(version.pipeline_spec) == {"pipeline_spec", "platform_spec"}
    deployment = version.pipeline_spec["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]
    assert deployment["executors"]["exec-add"]["nodeSelector"] == {"labels": {"disk": "ssd"}}

    run = client.run_pipeline("", name, pipeline_id=pipeline.pipeline_id, version_id=version.pipeline_version_id)
    own = "/apis/headrace/v1"
    for path in (
        f"/pipelines/{pipeline.pipeline_id}/versions/{version.pipeline_version_id}/document",
        f"/runs/{run.run_id}/document",
    ):
        answer = served.raw("GET", own + path)
        assert (answer.status_code, answer.content) == (200, written)


def test_a_platform_document_comes_through_a_run_of_its_own(client, served, packages, name):
    sent = {"pipeline_spec", "platform_spec"}
    run = client.create_run_from_pipeline_package(str(packages("cluster")), run_name=name)
    spec = client.get_run(run.run_id).pipeline_spec
    assert set(spec) == sent
    assert spec["platform_spec"] == list(yaml.safe_load_all(packages("cluster").read_text()))[1]


def _upload(served, content, filename="p.yaml", query="name=n", **more):
    return served.send("POST", f"{BASE}/pipelines/upload?{query}", files={"uploadfile": (filename, content)}, **more)


@pytest.mark.parametrize(
    ("content", "filename", "message"),
    [
        (b"a: [", "p.yaml", "not valid YAML"),
        (b"a: 1", "p.yaml", "not a PipelineSpec"),
        (b"- 1", "p.yaml", "not a compiled pipeline"),
        (b"", "p.yaml", "not a compiled pipeline"),
        (b"\xff\xfe", "p.yaml", "not UTF-8"),
        (b"pipeline_spec: [1]", "p.yaml", "not a compiled pipeline"),
        (b"? [1, 2]\n: 3", "p.yaml", "p.yaml"),
        (b"1: 2", "p.yaml", "p.yaml"),
        (b"root: 2020-01-01", "p.yaml", "p.yaml"),
        (b"x" * 100, "p.bin", "Unexpected pipeline file format"),
        (b"PK\x03\x04broken", "p.zip", "cannot be read"),
        (b"\x1f\x8bbroken", "p.tar.gz", "cannot be read"),
        (_zip({"a.txt": b"x"}), "p.zip", "Expecting a pipeline.yaml file inside the package. Got: none"),
        (_tar({"a.yaml": b"x", "b.yml": b"y"}), "p.tgz", "Got: a.yaml, b.yml"),
        (b"x" * (32 * 1024 * 1024 + 1), "p.yaml", "larger than 32 MiB"),
        (_zip({"pipeline.yaml": b" " * (32 * 1024 * 1024 + 1)}), "p.zip", "larger than 32 MiB"),
    ],
    ids=[
        "broken", "other", "list", "empty", "bytes", "spec-list", "complex-key", "number-key", "date", "unknown",
        "zip", "tar", "no-yaml", "two-yamls", "large", "bomb",
    ],
)  # fmt: skip
def test_a_wrong_package_is_refused_and_leaves_nothing(served, client, content, filename, message):
    before = client.list_pipelines().total_size
    status, told = _upload(served, content, filename)
    assert (status, told["code"]) == (400, 3)
    assert message in told["message"]
    assert client.list_pipelines().total_size == before


def test_a_wrong_name_isrefused(served, packages):
    content = packages("total").read_bytes()
    assert _upload(served, content, query=f"name={'x' * 129}")[0] == 400
    assert _upload(served, content, query="name=%20")[0] == 400
    assert _upload(served, content, query="name=n&tags=[1]")[0] == 400
    assert _upload(served, content, query="name=n&tags=nonsense")[0] == 400


def test_a_pipeline_is_called_after_its_file_when_it_has_no_name(served, packages):
    tags = "tags=%7B%22team%22:%20%22flights%22%7D"
    status, told = _upload(served, packages("total").read_bytes(), filename="by-file.yaml", query=tags)
    assert (status, told["name"], told["tags"]) == (200, "by-file.yaml", {"team": "flights"})
    assert served.send("GET", f"{BASE}/pipelines/names/by-file.yaml") == (200, told)
    assert served.send("GET", f"{BASE}/pipelines/names/none")[0] == 404


def test_a_pipeline_may_wait_for_its_first_version(served, client, name, packages):
    status, told = served.send("POST", f"{BASE}/pipelines", json={"display_name": name})
    assert (status, told["name"]) == (200, name)
    client.upload_pipeline_version(str(packages("total")), "first", told["pipeline_id"])
    assert client.list_pipeline_versions(told["pipeline_id"]).total_size == 1


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"origin": "http://evil.example.com"}, "a page of http://evil.example.com may change nothing here"),
        ({"origin": "null"}, "a page of null may change nothing here"),
        ({"sec-fetch-site": "cross-site"}, "a page of another site may change nothing here"),
        ({"host": "evil.example.com"}, "evil.example.com is not a name of this server"),
        ({"host": "[::1"}, "[::1 is not a name of this server"),
    ],
)
def test_another_sites_page_cannot_upload(served, client, packages, headers, message):
    before = client.list_pipelines().total_size
    status, told = _upload(served, packages("total").read_bytes(), query="name=evil", headers=headers)
    assert (status, message in told["message"]) == (400, True)
    assert client.list_pipelines().total_size == before


def test_the_servers_own_page_can_upload(served, packages, name):
    headers = {"origin": served.address, "sec-fetch-site": "same-origin"}
    assert _upload(served, packages("total").read_bytes(), query=f"name={name}", headers=headers)[0] == 200


def test_an_upload_that_is_none_isrefused(served):
    path = f"{BASE}/pipelines/upload?name=n"
    multipart = {"content-type": "multipart/form-data; boundary=x"}
    for more in (
        {"json": {}},
        {"content": b"", "headers": multipart},
        {"content": b"--x\r\nnonsense", "headers": multipart},
        {"content": b"--x--\r\n", "headers": {"content-type": "multipart/form-data"}},
        {"files": {"another": ("p.yaml", b"a: 1")}},
        {"data": {"uploadfile": "text"}, "files": {"another": ("p.yaml", b"a: 1")}},
    ):
        status, told = served.send("POST", path, **more)
        assert (status, told["code"]) == (400, 3), told


def test_display_names_and_tags_can_be_changed(client, uploaded, name, refused):
    pipeline_id = uploaded.pipeline_id
    (version,) = client.list_pipeline_versions(pipeline_id).pipeline_versions
    changed = client.pipelines.pipeline_service_update_pipeline(
        pipeline_pipeline_id=pipeline_id, pipeline=kfp_server_api.V2beta1Pipeline(display_name="shown")
    )
    assert (changed.display_name, changed.name, changed.tags) == ("shown", name, {})
    assert client.get_pipeline(pipeline_id) == changed
    update = client.pipelines.pipeline_service_update_pipeline_version
    identity = {
        "pipeline_version_pipeline_id": pipeline_id,
        "pipeline_version_pipeline_version_id": version.pipeline_version_id,
    }
    changed = update(**identity, pipeline_version=kfp_server_api.V2beta1PipelineVersion(tags={"stage": "prod"}))
    assert (changed.display_name, changed.tags) == (name, {"stage": "prod"})
    assert client.get_pipeline_version(pipeline_id, version.pipeline_version_id) == changed
    refused(400, update, **identity, pipeline_version=kfp_server_api.V2beta1PipelineVersion(display_name=" "))
    identity["pipeline_version_pipeline_version_id"] = "nowhere"
    refused(404, update, **identity, pipeline_version=kfp_server_api.V2beta1PipelineVersion(display_name="x"))
