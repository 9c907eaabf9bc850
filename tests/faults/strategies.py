"""The strategies, each with a service of its own, and how each should find each fault."""

from dataclasses import dataclass

ANALYSIS = """\
  analysis:
    interval: 1s
    warmup: 1s
    maxDuration: 2m
    metrics:
    - {name: errors, weight: 2, minEffect: 0.05, budget: 0.05}
    - {name: latency, threshold: 200ms, minEffect: 0.1, budget: 0.1}
"""
LABELS = "    - {name: labels, minEffect: 0.05, budget: 0.1}\n"


@dataclass(frozen=True)
class Strategy:
    """A service's name, its rollout, and what finds wrong answers: the first word of the message."""

    name: str
    text: str
    wrong_answers: str
    conversions: bool = False

    @property
    def service(self):
        return self.name.lower()

    def document(self, analysis):
        head = f"apiVersion: headrace.dev/v1alpha1\nkind: Rollout\nmetadata: {{name: {self.service}}}\n"
        return f"{head}spec:\n  strategy: {self.text}\n{analysis}"

    def found_by(self, fault):
        """How the message of the rollout that was taken back begins."""
        if fault == "crash":
            return "the server of"
        return {"slow": "latency", "wrong labels": self.wrong_answers}.get(fault, "errors")


STRATEGIES = (
    Strategy(
        "canary",
        "{canary: {steps: [{setWeight: 20}, {analysis: {minRequests: 300}}, {setWeight: 50}, {analysis: {}}]}}",
        "labels",
    ),
    Strategy("blueGreen", "{blueGreen: {}}", "labels"),
    Strategy(
        "abTest",
        "{abTest: {sticky: {header: x-user-id}, weight: 50, duration: 1h, metric: {name: right, kind: conversion}}}",
        "right",
        conversions=True,
    ),
    Strategy("shadow", "{shadow: {percent: 100, minRequests: 500, maxDisagreement: 0.1}}", "disagreement"),
)


def files():
    """The project: a service for each strategy."""
    services = "".join(
        f'\n[services.{one.service}]\nmanifest = "{one.service}.yaml"\nrollout = "{one.service}-rollout.yaml"\n'
        for one in STRATEGIES
    )
    found = {"headrace.toml": f'[project]\nname = "faults"\n{services}'}
    for one in STRATEGIES:
        found[f"{one.service}.yaml"] = (
            "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\n"
            f"metadata: {{name: {one.service}}}\n"
            "spec: {predictor: {timeout: 10, model: {modelFormat: {name: mlflow},"
            f" storageUri: models:/{one.service}@champion}}}}}}\n"
        )
        # A shadow's answers get no labels, and those of an A/B test are its conversions.
        labels = LABELS if one.wrong_answers == "labels" else ""
        found[f"{one.service}-rollout.yaml"] = one.document(ANALYSIS + labels)
    return found
