"""Requests that wait together are predicted together, and each gets its own answer."""

import asyncio
import threading

import numpy as np
import pytest

from headrace.serving.runtime.errors import BadAnswer, Overloaded
from headrace.serving.runtime.line import Line
from headrace.serving.runtime.models import Inputs, Model


class Counting:
    """Doubles; raises at 13, and gives NaN for 99. Notes how many rows each call had."""

    def __init__(self):
        self.calls = []
        self.gate = threading.Event()
        self.gate.set()

    def predict(self, table):
        self.gate.wait(30)
        self.calls.append(len(table))
        if 13 in table:
            raise ValueError("thirteen")
        return np.where(table[:, 0] == 99, np.nan, table[:, 0] * 2)


def rows(*values):
    return Inputs({"": np.array([[float(value)] for value in values])}, len(values))


def ask(line, *several):
    async def all_at_once():
        return await asyncio.gather(*(line.predict(one) for one in several), return_exceptions=True)

    return [
        answer["output-0"].tolist() if isinstance(answer, dict) else answer for answer in asyncio.run(all_at_once())
    ]


@pytest.fixture
def counting():
    return Counting()


@pytest.fixture
def line(counting):
    return lambda **more: Line(Model(counting, (), (), form="matrix", rowwise=True), **more)


def test_what_waits_together_is_predicted_together_and_split_again(line, counting):
    assert ask(line(), rows(1), rows(2, 3), rows(4)) == [[2], [4, 6], [8]]
    assert counting.calls == [4]


def test_a_bad_row_fails_alone(line, counting):
    told = ask(line(), rows(1), rows(13), rows(99), rows(2))
    assert (told[0], told[3]) == ([2], [4])
    assert isinstance(told[1], ValueError)
    assert isinstance(told[2], BadAnswer)
    assert counting.calls == [4, 1, 1, 1, 1]


def test_a_batch_has_at_most_so_many_rows(line, counting):
    assert ask(line(batch_rows=2), *(rows(n) for n in range(5))) == [[0], [2], [4], [6], [8]]
    assert counting.calls == [2, 2, 1]
    counting.calls.clear()
    assert ask(line(batch_rows=2), rows(1, 2, 3)) == [[2, 4, 6]]
    assert counting.calls == [3]


def test_a_model_that_is_not_known_to_be_rowwise_gets_each_request_alone_unless_it_is_asked_for(counting):
    model = Model(counting, (), (), form="matrix", rowwise=False)
    ask(Line(model), rows(1), rows(2))
    assert counting.calls == [1, 1]
    ask(Line(model, batch_rows=8), rows(1), rows(2))
    assert counting.calls == [1, 1, 2]


def test_requests_of_different_kinds_are_not_put_together(line, counting):
    wide = Inputs({"": np.array([[5.0, 1.0]])}, 1)
    assert ask(line(), rows(1), wide, rows(2)) == [[2], [10], [4]]
    assert counting.calls == [1, 1, 1]


def test_with_a_delay_a_request_waits_for_others_but_a_full_batch_does_not(line, counting):
    made = line(batch_rows=3, delay=0.05)

    async def one_after_another():
        first = asyncio.ensure_future(made.predict(rows(1)))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(made.predict(rows(2)))
        return [(await one)["output-0"].tolist() for one in (first, second)]

    assert asyncio.run(one_after_another()) == [[2], [4]]
    assert counting.calls == [2]
    full = line(batch_rows=3, delay=3600)
    assert ask(full, rows(1), rows(2), rows(3)) == [[2], [4], [6]]
    assert counting.calls == [2, 3]


def test_the_loop_goes_on_while_a_prediction_takes_its_time(line, counting):
    made = line()
    counting.gate.clear()

    async def meanwhile():
        first = asyncio.ensure_future(made.predict(rows(1)))
        await asyncio.sleep(0.01)
        later = [asyncio.ensure_future(made.predict(rows(n))) for n in (2, 3)]
        await asyncio.sleep(0.01)
        assert not first.done()
        counting.gate.set()
        return [(await one)["output-0"].tolist() for one in (first, *later)]

    assert asyncio.run(meanwhile()) == [[2], [4], [6]]
    assert counting.calls == [1, 2]


def test_a_short_prediction_is_made_on_the_loop(line, counting):
    made = line()
    for _ in range(16):
        made.learn(0.0001, 1)
    assert ask(made, rows(1)) == [[2]]
    assert made._thread is None


def test_somebody_who_went_away_harms_nobody(line, counting):
    made = line()

    async def leave():
        first = asyncio.ensure_future(made.predict(rows(1)))
        second = asyncio.ensure_future(made.predict(rows(2)))
        await asyncio.sleep(0)
        first.cancel()
        return (await second)["output-0"].tolist()

    assert asyncio.run(leave()) == [4]


def test_a_full_line_takes_nobody_more(line):
    made = line(limit=1)
    made.enter()
    with pytest.raises(Overloaded, match="at most 1 may"):
        made.enter()
    made.leave()
    made.enter()
