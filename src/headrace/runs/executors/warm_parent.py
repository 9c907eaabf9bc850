"""The warm parent: a process with one thread that has imported the heavy libraries and forks a child for each task.

It reads one JSON object a line on stdin and writes one a line on stdout:

    {"fork": id, "directory", "log", "environment", "preload": […], "code", "function", "input", "command": […],
     "workdir"}
        ->  {"forked": id, "pid"}
    a child has left its result and nothing of it is at work or open any more, and once more when it has ended
        ->  {"exited": pid, "status": code}

Both are taken away from what is imported: there file 0 is empty, and file 1 the same as stderr.

The end of stdin ends the parent, once the children that have left their result are gone. The others are in sessions of
their own and go on without it; each claims its directory as the first thing that it does and leaves `result.json` there
as the last.

It also runs in environments that hold kfp and psutil, and not Headrace: so it finds its one neighbour by its place.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import importlib
import importlib.util
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
import traceback
import types
from typing import Any, NoReturn

RESULT_FILE = "result.json"
RESULT_ROOM = 4096
CLAIM = "claim"
CODE_FILE = "ephemeral_component.py"
INPUT_FILE = "executor_input.json"
# Training must not take the processor from the models that answer live requests on the same machine.
NICENESS = 10
PAUSE_POLL_SECONDS = 0.2
_OPEN_FILES = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
_ACCELERATORS = ("/dev/nvidia", "/dev/kfd", "/dev/dri/", "/dev/accel")
_PAUSES = ("ARGO_DEBUG_PAUSE_BEFORE", "ARGO_DEBUG_PAUSE_AFTER", "ARGO_DEBUG_PAUSE_ON_ERROR")


def _neighbour(name: str) -> Any:
    """A module of Headrace that needs nothing else of it."""
    place = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"headrace_{name}", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


processes = _neighbour("processes")


def claim(directory: str, pid: int | None) -> tuple[int | None, float]:
    """Who does the attempt in this directory, and when it was started: the process `pid`, unless another was first.

    None claims it for nobody: a process that was asked to do it and has not begun never will.
    """
    place = os.path.join(directory, CLAIM)
    # A symbolic link is made once, and whole or not at all; what it says need not exist.
    with contextlib.suppress(FileExistsError):
        os.symlink(json.dumps([pid, processes.created(pid) if pid else 0.0]), place)
    return claimed_by(directory)


def claimed_by(directory: str | os.PathLike[str]) -> tuple[int | None, float]:
    """Who does the attempt in this directory, and when it was started; (None, 0.0): nobody, up to now."""
    try:
        first, since = json.loads(os.readlink(os.path.join(directory, CLAIM)))
    except FileNotFoundError:
        return None, 0.0
    return first, since


def main() -> None:
    """Serve until stdin ends."""
    requests, answers = _taken_over()
    os.nice(NICENESS)
    sys.dont_write_bytecode = True
    importlib.import_module("kfp.dsl.executor_main")
    _freeze()
    wakeup_read, wakeup_write = os.pipe()
    os.set_blocking(wakeup_write, False)
    os.set_blocking(wakeup_read, False)
    # Children tell of their results here: to free the memory of one that is large takes the system a while.
    done_read, done_write = os.pipe()
    signal.set_wakeup_fd(wakeup_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    processes.adopt_orphans()
    _say(answers, {"ready": os.getpid()})
    tasks: dict[int, str] = {}
    leaving: set[int] = set()
    buffer = b""
    while True:
        readable, _, _ = select.select([requests, wakeup_read, done_read], [], [])
        if done_read in readable:
            leaving = (leaving & tasks.keys()) | _hear(done_read, tasks, answers)
        if wakeup_read in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(wakeup_read, 4096)
            _reap(tasks, answers)
        if requests in readable:
            data = os.read(requests, 1 << 20)
            if not data:
                # Who starts the next run finds the memory of this one free.
                for pid in leaving & tasks.keys():
                    os.waitpid(pid, 0)
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                request = json.loads(line)
                pid = _fork(request, (requests, answers, wakeup_read, wakeup_write, done_read), done_write)
                _say(answers, {"forked": request["fork"], "pid": pid})
                tasks[pid] = request["directory"]


def _taken_over() -> tuple[int, int]:
    """Where requests come from and answers go to. A library that prints or reads on import meets neither."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _hear(done: int, tasks: dict[int, str], answers: int) -> set[int]:
    """Tell of the children that have left a result since the last time, and return them."""
    found = set()
    for line in os.read(done, 1 << 16).splitlines():
        # A component that writes to what it has not opened keeps nobody from hearing of its end: that is seen, too.
        with contextlib.suppress(ValueError, TypeError):
            pid, status = json.loads(line)
            if pid in tasks:
                found.add(pid)
                _say(answers, {"exited": pid, "status": status})
    return found


def _fork(request: dict[str, Any], own_descriptors: tuple[int, ...], done: int) -> int:
    _preload(request["preload"])
    _compiled(request["code"])
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        for descriptor in own_descriptors:
            os.close(descriptor)
        _child(request, done)
    return pid


def _preload(modules: list[str]) -> None:
    """Import what the task will import, so that the next one finds it here. The task reports what cannot be."""
    fresh = [name for name in modules if name not in _tried]
    for name in fresh:
        _tried.add(name)
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    if fresh:
        _freeze()


_tried: set[str] = set()


def _freeze() -> None:
    """Keep what is there out of garbage collections, which would have each task copy the memory that it shares."""
    gc.collect()
    gc.freeze()


def _reap(tasks: dict[int, str], answers: int) -> None:
    """Tell of each task that has ended, once nothing is left of what it has started: as in a container."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid not in tasks:
            continue
        directory = tasks.pop(pid)
        # A task that comes to its end takes along what it has started. What one leaves that is killed comes here.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        if not os.path.exists(os.path.join(directory, RESULT_FILE)):
            processes.end_children(keep=tasks)
        _say(answers, {"exited": pid, "status": os.waitstatus_to_exitcode(status)})


def _say(answers: int, message: dict[str, Any]) -> None:
    # The engine may be gone already; then the end of stdin follows.
    with contextlib.suppress(BrokenPipeError):
        os.write(answers, json.dumps(message).encode() + b"\n")


def _child(request: dict[str, Any], done: int) -> NoReturn:
    """Run one component in this process and never return. `done` hears of its result."""
    directory = request["directory"]
    pipe = os.fstat(done)
    outcome: dict[str, Any] = {"exit_code": 1, "error": "the task's process could not be set up"}
    try:
        _settle(request)
        if claim(directory, os.getpid())[0] != os.getpid():
            os._exit(0)
        _keep_room(directory)
        outcome = _execute(request)
    except BaseException as error:  # noqa: BLE001 - whatever it was, the engine is told
        with contextlib.suppress(OSError):
            traceback.print_exc()
        outcome["error"] = f"{type(error).__name__}: {error}"
    finally:
        _finish(directory, outcome, done, pipe)


def _settle(request: dict[str, Any]) -> None:
    """A session, log, working directory and environment of the task's own."""
    os.setsid()
    # What a task starts belongs to it, however far it goes; so it can be found when the task has to end.
    processes.adopt_orphans()
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.update(request["environment"])
    workspace = os.path.join(request["directory"], "work")
    os.makedirs(workspace, exist_ok=True)
    os.chdir(request["workdir"] or workspace)
    if request["workdir"]:
        sys.path.insert(0, request["workdir"])


def _execute(request: dict[str, Any]) -> dict[str, Any]:
    directory = request["directory"]
    os.makedirs(os.path.dirname(request["input"]["outputs"]["outputFile"]), exist_ok=True)
    for output in request["input"]["outputs"]["artifacts"].values():
        for artifact in output["artifacts"]:
            os.makedirs(os.path.dirname(artifact["uri"]), exist_ok=True)
    os.makedirs(os.path.join(directory, "parameters"), exist_ok=True)
    _write(os.path.join(directory, INPUT_FILE), json.dumps(request["input"]))
    wanted = {name for name in _PAUSES if request["environment"].get(name) == "true"}
    if "ARGO_DEBUG_PAUSE_BEFORE" in wanted:
        _pause(directory, "before")
    if request["command"]:
        outcome = _run(request["command"])
    else:
        _write(os.path.join(directory, CODE_FILE), request["code"])
        outcome = _call(directory, request)
    if "ARGO_DEBUG_PAUSE_AFTER" in wanted or ("ARGO_DEBUG_PAUSE_ON_ERROR" in wanted and outcome["exit_code"]):
        _pause(directory, "after")
    return outcome


def _pause(directory: str, when: str) -> None:
    """Wait for a person who looks around, as `set_debug_pause` of KFP asks; Argo waits for a file, too."""
    go_on = os.path.join(directory, f"go-on-{when}")
    told = f"Paused {when} the component; look around in {directory}. To go on: touch {go_on}"
    sys.stdout.write(told + "\n")
    while not os.path.exists(go_on):
        time.sleep(PAUSE_POLL_SECONDS)


def _write(file: str, text: str) -> None:
    with open(file, "w", encoding="utf-8") as stream:
        stream.write(text)


def _run(command: list[str]) -> dict[str, Any]:
    """A command of a container component; what it leaves running ends with the task."""
    try:
        code = subprocess.run(command, check=False).returncode
    except OSError as error:
        return {"exit_code": 127, "error": f"the command {command[0]} cannot be started: {error.strerror}"}
    if code < 0:
        return {"exit_code": code, "error": f"the command {command[0]} was killed by {signal.Signals(-code).name}"}
    return {"exit_code": code, "error": f"the command {command[0]} ended with exit code {code}" if code else ""}


def _call(directory: str, request: dict[str, Any]) -> dict[str, Any]:
    from kfp.dsl import executor

    # As the SDK's own executor sets it up: what a component logs is seen, from INFO on.
    form = "[KFP Executor %(asctime)s %(levelname)s]: %(message)s"
    logging.basicConfig(stream=sys.stdout, format=form, level=logging.INFO, force=True)
    # In the caller's folder it is as in kfp.local, which shows what that executor says of itself. Elsewhere this would
    # stand between the author's words and who looks for them.
    say = logging.info if request["workdir"] else logging.debug
    name, file = request["function"], os.path.join(directory, CODE_FILE)
    try:
        say("Looking for component `%s` in %s", name, file)
        say('Loading KFP component "%s" from %s', name, file)
        function = getattr(_module(directory, request["code"]), name)
        say("Got executor_input:\n%s", json.dumps(request["input"], indent=4) if request["workdir"] else "")
        runner = executor.Executor(executor_input=request["input"], function_to_execute=function)
        # The SDK takes an empty list of artifacts for none at all.
        lists = request["input"]["inputs"]["artifacts"]
        runner.input_artifacts.update({name: [] for name, given in lists.items() if not given["artifacts"]})
        written = runner.execute()
        say(f"Wrote executor output file to {written}." if written else "Did not write output file.")
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        return {"exit_code": code, "error": f"the component called sys.exit({error.code})" if code else ""}
    except BaseException as error:  # noqa: BLE001 - a component may raise anything
        _print_from(file, error)
        return {"exit_code": 1, "error": _one_line(error)}
    return {"exit_code": 0, "error": ""}


@functools.lru_cache(maxsize=256)
def _compiled(code: str) -> types.CodeType | None:
    """A component's code; None when it is none. The parent compiles it, and the tasks of a component find it here."""
    try:
        return compile(code, CODE_FILE, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _module(directory: str, code: str) -> types.ModuleType:
    """The component's file as a module, as `kfp.dsl.utils.load_module` makes it; may raise what its code raises."""
    file = os.path.join(directory, CODE_FILE)
    spec = importlib.util.spec_from_file_location(CODE_FILE.removesuffix(".py"), file)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, directory)
    compiled = _compiled(code)
    exec(_placed(compiled, file) if compiled else compile(code, file, "exec", dont_inherit=True), module.__dict__)
    return module


def _placed(code: types.CodeType, file: str) -> types.CodeType:
    """The code, and all in it, as if compiled from this file: tracebacks and `inspect` look there."""
    consts = tuple(_placed(const, file) if isinstance(const, types.CodeType) else const for const in code.co_consts)
    return code.replace(co_filename=file, co_consts=consts)


def _print_from(code_file: str, error: BaseException) -> None:
    """The traceback, without the frames of the machinery above the component's own code."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != code_file:
        trace = trace.tb_next
    # The disk may be full, and the log on it; the error itself has its room.
    with contextlib.suppress(OSError):
        traceback.print_exception(error.with_traceback(trace or error.__traceback__))


def _one_line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _finish(directory: str, outcome: dict[str, Any], done: int, pipe: os.stat_result) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    # Whoever still writes would write into outputs that are read and digested as soon as there is a result.
    processes.end_children()
    code = outcome["exit_code"] & 0xFF
    with contextlib.suppress(OSError):
        _leave_result(directory, outcome)
        # A component may have closed what it did not open, and have something else under that number.
        if os.path.samestat(os.fstat(done), pipe) and _lets_go(done):
            os.write(done, json.dumps([os.getpid(), code]).encode() + b"\n")
    # Libraries may have left threads or child processes that would keep the session alive; exit hooks are not run
    # either, because the parent's are not this process's to run.
    os._exit(code)


def _lets_go(keep: int) -> bool:
    """Close all files but `keep`; whether only memory is left to be freed, so that the next task can begin.

    It cannot while a thread may still write, or the memory of a GPU, which goes with the process, is taken.
    """
    if len(sys._current_frames()) > 1:
        return False
    files = [int(name) for name in os.listdir(_OPEN_FILES)]
    if any(_path(file).startswith(_ACCELERATORS) for file in files):
        return False
    for file in files:
        if file > 2 and file != keep:
            # Locks and ports are free then. The list itself was one of the files.
            with contextlib.suppress(OSError):
                os.close(file)
    return True


def _path(file: int) -> str:
    """Where an open file lies; "" where the system does not tell."""
    try:
        return os.readlink(f"{_OPEN_FILES}/{file}")
    except OSError:
        return ""


def _keep_room(directory: str) -> None:
    """Take the space of a result before the task can fill the disk."""
    _write(os.path.join(directory, f"{RESULT_FILE}.tmp"), " " * RESULT_ROOM)


def _leave_result(directory: str, outcome: dict[str, Any]) -> None:
    """Write the result and move it into place. On a full disk it is no longer than the room that was kept for it."""
    temporary = os.path.join(directory, f"{RESULT_FILE}.tmp")
    place = os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        _overwrite(place, outcome)
    except OSError:
        os.ftruncate(place, RESULT_ROOM)
        _overwrite(place, {**outcome, "error": outcome["error"][: RESULT_ROOM // 16]})
    os.replace(temporary, os.path.join(directory, RESULT_FILE))


def _overwrite(place: int, outcome: dict[str, Any]) -> None:
    text = json.dumps(outcome).encode().ljust(RESULT_ROOM)
    if os.pwrite(place, text, 0) != len(text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


if __name__ == "__main__":
    main()
