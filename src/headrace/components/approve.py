"""Wait for a person."""

from kfp import dsl


@dsl.container_component
def approve(summary: str, model: str):  # type: ignore[no-untyped-def]
    """Ask whether a model may take traffic; the pipeline goes on once somebody has approved.

    `headrace approvals approve GATE`, or the same over HTTP. A rejection fails the task.
    """
    return dsl.ContainerSpec(
        image="kfp://human-input",
        command=["wait"],
        args=[
            '{"question": "May this model take live traffic?"}',
            "--evidence.evaluation",
            summary,
            "--evidence.model",
            model,
        ],
    )
