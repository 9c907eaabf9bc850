"""A reader that goes on where it stopped."""

import pytest
from kfp import dsl

from headrace.errors import NotFoundError
from headrace.runs.attempts import log_path
from headrace.runs.logs import LogReader, Piece


@dsl.component(base_image="python:3.11")
def speak() -> str:
    import sys

    print("to stdout", flush=True)  # noqa: T201
    print("to stderr", file=sys.stderr, flush=True)  # noqa: T201
    print("to stdout again", flush=True)  # noqa: T201
    return "x"


@dsl.component(base_image="python:3.11")
def listen(words: str):
    print("heard", words)  # noqa: T201


@dsl.pipeline(name="talk")
def talk():
    listen(words=speak().output)


def test_stdout_and_stderr_come_in_the_order_in_which_they_were_written(run, database, home):
    run_id = run(talk).run_id
    pieces, ended = LogReader(database, home, run_id, "speak").read()
    assert (pieces, ended) == ([Piece("speak", 1, "to stdout\nto stderr\nto stdout again\n")], True)


def test_tasks_come_in_the_order_of_their_starts_each_under_its_title(run, database, home):
    reader = LogReader(database, home, run(talk).run_id)
    pieces, ended = reader.read()
    assert ([piece.task_id for piece in pieces], ended) == (["speak", "listen"], True)
    assert "".join(text for _, text in reader.titled(pieces)) == (
        "── speak (attempt 1)\nto stdout\nto stderr\nto stdout again\n── listen (attempt 1)\nheard x\n"
    )
    assert reader.read() == ([], True)


def test_a_title_starts_a_line_of_its_own(run, database, home):
    reader = LogReader(database, home, run(talk).run_id)
    told = list(reader.titled([Piece("a", 1, "half"), Piece("b", 1, "x\n"), Piece("a", 1, " a line")]))
    assert [text for is_title, text in told if is_title] == [
        "── a (attempt 1)\n", "\n── b (attempt 1)\n", "── a (attempt 1)\n",
    ]  # fmt: skip


def test_what_is_cut_in_the_middle_of_a_letter_is_read_whole_later(run, database, home):
    run_id = run(talk).run_id
    with database.transaction() as connection:
        connection.execute("UPDATE run SET state = 'RUNNING' WHERE id = ?", (run_id,))
        connection.execute("UPDATE task SET state = 'RUNNING' WHERE run_id = ?", (run_id,))
    log = log_path(home, run_id, "listen", 1)
    reader = LogReader(database, home, run_id, "listen")
    assert reader.read() == ([Piece("listen", 1, "heard x\n")], False)
    euro = "€".encode()
    with log.open("ab") as stream:
        stream.write(euro[:1])
        stream.flush()
        assert reader.read() == ([], False)
        stream.write(euro[1:] + b"\xff\n")
    assert reader.read() == ([Piece("listen", 1, "€�\n")], False)


def test_a_large_log_comes_in_pieces(run, database, home):
    run_id = run(talk).run_id
    log_path(home, run_id, "listen", 1).write_bytes(b"x" * (2 * 1024 * 1024 + 5))
    reader = LogReader(database, home, run_id, "listen")
    lengths = []
    ended = False
    while not ended:
        pieces, ended = reader.read()
        lengths += [len(piece.text) for piece in pieces]
    assert lengths == [1024 * 1024, 1024 * 1024, 5]


def test_a_task_that_the_pipeline_does_not_have_is_not_found(run, database, home):
    run_id = run(talk).run_id
    with pytest.raises(NotFoundError, match='no task called "shout"'):
        LogReader(database, home, run_id, "shout")
    with pytest.raises(NotFoundError, match="no run has the id nowhere"):
        LogReader(database, home, "nowhere")
