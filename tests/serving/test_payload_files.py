"""Whole requests and answers lie in Parquet files: sampled, bounded, and never half written."""

import pyarrow.parquet as parquet
import pytest

from headrace.serving import payload_files
from headrace.serving.payload_files import Payload, PayloadFiles
from headrace.serving.payload_log import PayloadWriter, labels_of_parquet


def payload(number, request=b"{}"):
    return Payload(f"id-{number}", "iris-00001", "canary", 1_800_000_000.25, request, "1")


def rows(folder):
    return [row for file in sorted(folder.glob("*.parquet")) for row in parquet.read_table(file).to_pylist()]


def test_a_writer_leaves_what_came_and_what_was_answered(tmp_path):
    writer = PayloadWriter(tmp_path / "iris.db", "iris-00001", PayloadFiles(tmp_path / "iris", mode="all"))
    writer.add("a", 1, arm="canary", request=b'{"instances": [[1]]}')
    writer.add("b", [1, 2], arm="stable", request=b"\xff\x00")
    writer.close()
    told = {row["id"]: row for row in rows(tmp_path / "iris")}
    assert told["a"]["request"] == '{"instances": [[1]]}'
    assert (told["a"]["response"], told["a"]["arm"], told["a"]["revision"]) == ("1", "canary", "iris-00001")
    assert (told["b"]["request"], told["b"]["response"]) == ("(2 bytes, not text)", "[1, 2]")
    assert told["a"]["at"].tzinfo is not None


@pytest.mark.parametrize(("mode", "request_", "response"), [("request", "{}", None), ("response", None, "1")])
def test_the_mode_says_which_half_is_kept(tmp_path, mode, request_, response):
    files = PayloadFiles(tmp_path, mode=mode)
    files.add(payload(1))
    files.flush(last=True)
    (row,) = rows(tmp_path)
    assert (row["request"], row["response"]) == (request_, response)


def test_a_sample_is_a_share_of_all(tmp_path, monkeypatch):
    drawn = iter([0.1, 0.3, 0.2, 0.9])
    monkeypatch.setattr(payload_files.random, "random", lambda: next(drawn))
    files = PayloadFiles(tmp_path, mode="all", sample=0.25)
    for number in range(4):
        files.add(payload(number))
    files.flush(last=True)
    assert [row["id"] for row in rows(tmp_path)] == ["id-0", "id-2"]


def test_a_file_is_written_when_there_is_enough_or_when_it_is_time(tmp_path, monkeypatch):
    monkeypatch.setattr(payload_files, "MAX_ROWS", 3)
    files = PayloadFiles(tmp_path, mode="all")
    for number in range(2):
        files.add(payload(number))
    files.flush()
    assert rows(tmp_path) == []
    files.add(payload(2))
    files.flush()
    assert len(rows(tmp_path)) == 3
    monkeypatch.setattr(payload_files, "MAX_SECONDS", 0.0)
    files.add(payload(3))
    files.flush()
    assert len(rows(tmp_path)) == 4
    files.flush(last=True)
    assert len(list(tmp_path.iterdir())) == 2, "nothing is written when there is nothing, and nothing half is left"


def test_the_oldest_files_go_when_there_is_too_much(tmp_path, monkeypatch):
    files = PayloadFiles(tmp_path, mode="all")
    for number in range(5):
        files.add(payload(number))
        files.flush(last=True)
    size = max(file.stat().st_size for file in tmp_path.iterdir())
    monkeypatch.setattr(payload_files, "MAX_BYTES", 2 * size)
    files.add(payload(5))
    files.flush(last=True)
    assert [row["id"] for row in rows(tmp_path)] == ["id-4", "id-5"]


def test_what_the_disk_does_not_take_is_counted_and_the_next_is_written(tmp_path, caplog):
    folder = tmp_path / "iris"
    folder.write_text("a file where the folder should be")
    writer = PayloadWriter(tmp_path / "iris.db", "iris-00001", PayloadFiles(folder, mode="all"))
    writer.add("a", 1)
    writer.close()
    assert writer.dropped == 1
    assert "predictions are not logged" in caplog.text


def test_labels_may_come_as_a_parquet_file(tmp_path):
    import pandas as pd

    file = tmp_path / "labels.parquet"
    pd.DataFrame({"id": ["a", "b"], "value": [1, 0]}).to_parquet(file)
    assert labels_of_parquet(file.read_bytes()) == [("a", 1), ("b", 0)]
