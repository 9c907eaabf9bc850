"""Metaflow: each task is a new process. BENCH_FLOW says which of the flows a process is for."""

import os

import timed
from metaflow import FlowSpec, step


class Chain(FlowSpec):
    @step
    def start(self):
        self.x = 0
        timed.stamp()
        self.next(self.s1)

    @step
    def s1(self):
        self.x += 1
        timed.stamp()
        self.next(self.s2)

    @step
    def s2(self):
        self.x += 1
        timed.stamp()
        self.next(self.s3)

    @step
    def s3(self):
        self.x += 1
        timed.stamp()
        self.next(self.s4)

    @step
    def s4(self):
        self.x += 1
        timed.stamp()
        self.next(self.s5)

    @step
    def s5(self):
        self.x += 1
        timed.stamp()
        self.next(self.s6)

    @step
    def s6(self):
        self.x += 1
        timed.stamp()
        self.next(self.s7)

    @step
    def s7(self):
        self.x += 1
        timed.stamp()
        self.next(self.s8)

    @step
    def s8(self):
        self.x += 1
        timed.stamp()
        self.next(self.end)

    @step
    def end(self):
        timed.stamp()


class Wide(FlowSpec):
    @step
    def start(self):
        self.items = list(range(int(os.environ["BENCH_WIDE"])))
        self.next(self.one, foreach="items")

    @step
    def one(self):
        self.x = self.input + 1
        timed.stamp()
        self.next(self.join)

    @step
    def join(self, inputs):
        self.total = sum(i.x for i in inputs)
        self.next(self.end)

    @step
    def end(self):
        pass


class Frames(FlowSpec):
    @step
    def start(self):
        self.frame = timed.frame()
        self.next(self.s1)

    @step
    def s1(self):
        self.frame = self.frame.copy()
        self.next(self.s2)

    @step
    def s2(self):
        self.frame = self.frame.copy()
        self.next(self.s3)

    @step
    def s3(self):
        self.frame = self.frame.copy()
        self.next(self.s4)

    @step
    def s4(self):
        self.frame = self.frame.copy()
        self.next(self.s5)

    @step
    def s5(self):
        self.frame = self.frame.copy()
        self.next(self.s6)

    @step
    def s6(self):
        self.frame = self.frame.copy()
        self.next(self.s7)

    @step
    def s7(self):
        self.frame = self.frame.copy()
        self.next(self.s8)

    @step
    def s8(self):
        self.frame = self.frame.copy()
        self.next(self.s9)

    @step
    def s9(self):
        self.frame = self.frame.copy()
        self.next(self.s10)

    @step
    def s10(self):
        self.frame = self.frame.copy()
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    {"chain": Chain, "wide": Wide, "frame": Frames}[os.environ["BENCH_FLOW"]]()
