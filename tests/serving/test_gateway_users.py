"""The file in which Envoy notes what users got."""

from headrace.serving.gateway import UserRequest, users


def test_a_file_is_read_once_and_lines_that_are_none_are_left_out(tmp_path):
    file = tmp_path / "users.log"
    file.write_text(
        "default/delay/delay-00001\t200\t-\t3 1\tann\n"
        "default/delay/delay-00002\t200\t-\t3 2\tann\n"
        "default/delay/delay-00002/grpc\t200\t13\t12 1\tjoe\twith a tab\n"
        "default/delay/delay-00002/grpc\t200\t3\t12\tjoe\n"
        "default/delay/delay-00002\t504\t-\t900\t-\n"
        "-\t503\t-\t0\tann\n"
        "default/delay/delay-0000"
    )
    assert users.read(file) == [
        UserRequest("delay-00001", "ann", False, 3.0),
        UserRequest("delay-00002", "ann", True, 3.0),
        UserRequest("delay-00002", "joe\twith a tab", True, 12.0),
        UserRequest("delay-00002", "joe", False, 12.0),
        UserRequest("delay-00002", "", True, 900.0),
    ]
    assert users.read(file) == []


def test_one_that_has_grown_too_large_is_thrown_away(tmp_path, monkeypatch):
    file = tmp_path / "users.log"
    file.write_text("default/delay/delay-00001\t200\t-\t3\tann\n" * 10)
    monkeypatch.setattr(users, "MAX_BYTES", 100)
    assert users.read(file) == []
    assert not file.exists()
