"""What can start next: a pure function of the pipeline and of what is known of its tasks.

Every state of a group, loop or run is derived anew from the leaves, so there is nothing to get out of step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.contracts.pipeline_spec.document import PipelineDocument
from headrace.errors import HeadraceError
from headrace.runs import inputs
from headrace.runs.conditions import holds
from headrace.runs.inputs import Scope
from headrace.runs.model import FINAL, Artifact, Backoff, NodeResult, Plan, ReadyTask, RunContext, State, TaskFact

_ALL_COMPLETED = 2  # PipelineTaskSpec.TriggerPolicy.TriggerStrategy.ALL_UPSTREAM_TASKS_COMPLETED
_WAITING = NodeResult(State.PENDING)
_Iteration = tuple[dict[str, Any], dict[str, Sequence[Artifact]]]


@dataclass
class Memory:
    """What a caller keeps between the plans of one run, so that a plan costs what is open and not what there is.

    A result that is final stays as it is, and so do the items of a loop once they are known.
    """

    finals: dict[str, NodeResult] = field(default_factory=dict)
    loops: dict[str, list[_Iteration]] = field(default_factory=dict)


def plan(
    document: PipelineDocument,
    arguments: Mapping[str, Any],
    facts: Mapping[str, TaskFact],
    context: RunContext,
    artifacts: Mapping[str, Sequence[Artifact]] | None = None,
    *,
    memory: Memory | None = None,
    limit: int | None = None,
    every_iteration: bool = False,
) -> Plan:
    """The tasks that can start now, and what the run has come to; `artifacts` were given to the pipeline itself.

    With a `limit` the walk looks no further in a loop once it has found so many tasks. With `every_iteration` it looks
    at all of a loop, whatever its parallelism.
    """
    evaluation = _Evaluation(document, facts, context, memory or Memory(), limit, every_iteration=every_iteration)
    root = evaluation.group("", document.spec.root, "", arguments, artifacts or {})
    return Plan(tuple(evaluation.ready), root, evaluation.groups)


class _Evaluation:
    """One walk over the tree of groups, loops and tasks."""

    def __init__(
        self,
        document: PipelineDocument,
        facts: Mapping[str, TaskFact],
        context: RunContext,
        memory: Memory,
        limit: int | None,
        *,
        every_iteration: bool,
    ) -> None:
        self.components = document.spec.components
        self.order = document.task_order
        self.facts = facts
        self.context = context
        self.memory = memory
        self.limit = limit
        self.every_iteration = every_iteration
        self.ready: list[ReadyTask] = []
        self.groups: dict[str, NodeResult] = {}
        self.waits: list[tuple[str, float]] = []

    def group(
        self,
        name: str,
        component: Any,
        path: str,
        parameters: Mapping[str, Any],
        artifacts: Mapping[str, Sequence[Artifact]],
    ) -> NodeResult:
        """A DAG: as far as it can go, with the outputs of what is finished."""
        results: dict[str, NodeResult] = {}
        scope = Scope(parameters, artifacts, results.__getitem__, self.context)
        for child, upstream in self.order[name]:
            results[child] = self.task(component.dag.tasks[child], _join(path, child), scope, upstream)
        outcomes = results.values()
        outcome = NodeResult(_combined(outcomes), *_outputs(component, results), _first_message(outcomes))
        self.groups[path] = outcome
        return outcome

    def task(self, task: Any, path: str, scope: Scope, needs: Sequence[str]) -> NodeResult:
        known = self.memory.finals.get(path)
        if known is not None:
            return known
        result = self._task(task, path, scope, [scope.sibling(name) for name in needs])
        if result.final:
            self.memory.finals[path] = result
        return result

    def _task(self, task: Any, path: str, scope: Scope, upstream: list[NodeResult]) -> NodeResult:
        if not all(result.final for result in upstream):
            return _WAITING
        regardless = task.trigger_policy.strategy == _ALL_COMPLETED
        if not regardless and any(r.state in (State.FAILED, State.CANCELED) or r.blocked for r in upstream):
            return NodeResult(State.SKIPPED, blocked=True, message="something that it needs failed")
        component = self.components[task.component_ref.name]
        if path in self.memory.loops:
            return self.loop(task, component, path, self.memory.loops[path])
        try:
            given = inputs.resolve(task, component, scope, path)
            if given.missing:
                return self._without_inputs(given.missing, upstream, regardless)
            if task.trigger_policy.condition and not holds(task.trigger_policy.condition, given.parameters):
                return NodeResult(State.SKIPPED)
            if task.WhichOneof("iterator"):
                self.memory.loops[path] = self._iterations(task, path, given)
                return self.loop(task, component, path, self.memory.loops[path])
        except HeadraceError as error:
            return NodeResult(State.FAILED, message=str(error))
        return self.node(task, component, path, given.parameters, given.artifacts)

    def _without_inputs(self, missing: tuple[str, ...], upstream: list[NodeResult], regardless: bool) -> NodeResult:
        skipped = any(result.state is State.SKIPPED for result in upstream)
        message = f"its input {', '.join(missing)} was not produced"
        if skipped and not regardless:
            return NodeResult(State.SKIPPED, blocked=True, message=message)
        return NodeResult(State.FAILED, message=message)

    def loop(self, task: Any, component: Any, path: str, iterations: list[_Iteration]) -> NodeResult:
        """One group an item; at most `parallelismLimit` of them unfinished at a time (0: no limit)."""
        parallelism = 0 if self.every_iteration else task.iterator_policy.parallelism_limit
        limit = parallelism or len(iterations)
        finals = self.memory.finals
        results: list[NodeResult] = []
        unfinished = 0
        for index, (parameters, artifacts) in enumerate(iterations):
            place = f"{path}/{index}"
            result = finals.get(place)
            if result is None:
                if unfinished >= limit or self.full:
                    return NodeResult(_combined([*results, _WAITING]))
                result = self.node(task, component, place, parameters, artifacts)
                if result.final:
                    finals[place] = result
                else:
                    unfinished += 1
            results.append(result)
        outcome = _collected(component, results, flat=self.context.options.oss_parity)
        self.groups[path] = outcome
        return outcome

    @property
    def full(self) -> bool:
        """Whether as many tasks are ready as can be used."""
        return self.limit is not None and len(self.ready) >= self.limit

    def _iterations(self, task: Any, path: str, given: inputs.Resolved) -> list[_Iteration]:
        if task.WhichOneof("iterator") == "artifact_iterator":
            items = given.artifacts[task.artifact_iterator.items.input_artifact]
            item_input = task.artifact_iterator.item_input
            return [(given.parameters, {**given.artifacts, item_input: [item]}) for item in items]
        iterator = task.parameter_iterator
        values = inputs.loop_items(iterator, given.parameters, self.context, path)
        return [({**given.parameters, iterator.item_input: value}, given.artifacts) for value in values]

    def tries(
        self,
        task: Any,
        component: Any,
        path: str,
        parameters: Mapping[str, Any],
        artifacts: Mapping[str, Sequence[Artifact]],
    ) -> NodeResult:
        """A group, as a whole again after a failure while its retry policy allows; try N > 0 is at `path~N`."""
        name = task.component_ref.name
        outcome = self.group(name, component, path, parameters, artifacts)
        backoff = _backoff(task.retry_policy)
        before = path
        for number in range(1, task.retry_policy.max_retry_count + 1):
            if outcome.state is not State.FAILED:
                break
            self.waits.append((before, backoff.after(number)))
            before = f"{path}~{number}"
            outcome = self.group(name, component, before, parameters, artifacts)
            self.waits.pop()
        return outcome

    def node(
        self,
        task: Any,
        component: Any,
        path: str,
        parameters: Mapping[str, Any],
        artifacts: Mapping[str, Sequence[Artifact]],
    ) -> NodeResult:
        if component.WhichOneof("implementation") == "dag":
            return self.tries(task, component, path, parameters, artifacts)
        fact = self.facts.get(path)
        if fact is None or fact.state is State.PENDING:
            self.ready.append(_ready(task, path, parameters, artifacts, tuple(self.waits)))
            return _WAITING
        return NodeResult(fact.state, fact.parameters, fact.artifacts, fact.message)


def _ready(
    task: Any,
    path: str,
    parameters: Mapping[str, Any],
    artifacts: Mapping[str, Sequence[Artifact]],
    waits: tuple[tuple[str, float], ...],
) -> ReadyTask:
    return ReadyTask(
        path=path,
        component=task.component_ref.name,
        display_name=task.task_info.name or path,
        parameters=parameters,
        artifacts=artifacts,
        caching=task.caching_options.enable_cache,
        cache_key=task.caching_options.cache_key,
        max_retries=task.retry_policy.max_retry_count,
        backoff=_backoff(task.retry_policy),
        waits=waits,
    )


def _backoff(policy: Any) -> Backoff:
    return Backoff(
        policy.backoff_duration.ToTimedelta().total_seconds(),
        policy.backoff_factor or Backoff.factor,
        policy.backoff_max_duration.ToTimedelta().total_seconds() or Backoff.most,
    )


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _combined(results: Iterable[NodeResult]) -> State:
    """The state of a group: it goes on while anything can, and failed if anything failed."""
    states = {result.state for result in results}
    if State.PAUSED in states and State.RUNNING not in states:
        return State.PAUSED
    if states - {State.SUCCEEDED, State.SKIPPED, State.FAILED, State.CANCELED}:
        return State.RUNNING
    if State.FAILED in states:
        return State.FAILED
    return State.CANCELED if State.CANCELED in states else State.SUCCEEDED


def _first_message(results: Iterable[NodeResult]) -> str:
    return next((r.message for r in results if r.state is State.FAILED and r.message), "")


def _outputs(component: Any, results: Mapping[str, NodeResult]) -> tuple[dict[str, Any], dict[str, Sequence[Artifact]]]:
    """A group's outputs, as far as their producers have given them."""
    parameters: dict[str, Any] = {}
    for name, spec in component.dag.outputs.parameters.items():
        if spec.WhichOneof("kind") == "value_from_oneof":
            selectors = list(spec.value_from_oneof.parameter_selectors)
        else:
            selectors = [spec.value_from_parameter]
        for selector in selectors:
            producer = results[selector.producer_subtask]
            if selector.output_parameter_key in producer.parameters:
                parameters[name] = producer.parameters[selector.output_parameter_key]
                break
    artifacts: dict[str, Sequence[Artifact]] = {}
    for name, artifact_spec in component.dag.outputs.artifacts.items():
        for selector in artifact_spec.artifact_selectors:
            producer = results[selector.producer_subtask]
            if selector.output_artifact_key in producer.artifacts:
                artifacts[name] = list(producer.artifacts[selector.output_artifact_key])
                break
    return parameters, artifacts


def _collected(component: Any, results: list[NodeResult], *, flat: bool) -> NodeResult:
    """A loop's result: parameters as a list in the order of the items, artifacts as one flat list.

    An iteration that did not produce an output (its branch was skipped) is left out of that output's list. `flat`: what
    a loop inside has collected is joined, as the open source backend of KFP does.
    """
    state = _combined(results)
    if state not in FINAL:
        return NodeResult(state)
    parameters = {
        name: [r.parameters[name] for r in results if name in r.parameters]
        for name in component.output_definitions.parameters
    }
    if flat:
        looped = {name: parts for name, parts in parameters.items() if _loops(component, name)}
        joined = {name: [item for part in parts for item in part] for name, parts in looped.items()}
        parameters = {**parameters, **joined}
    artifacts = {
        name: [item for r in results for item in r.artifacts.get(name, [])]
        for name in component.output_definitions.artifacts
    }
    return NodeResult(state, parameters, artifacts, _first_message(results))


def _loops(component: Any, output: str) -> bool:
    """Whether an output parameter of a DAG comes from a loop in it."""
    if not component.HasField("dag"):
        return False
    producer = component.dag.outputs.parameters[output].value_from_parameter.producer_subtask
    return producer in component.dag.tasks and component.dag.tasks[producer].WhichOneof("iterator") is not None
