import fcntl
import os
import signal
import subprocess
import sys
import threading

from headrace.store.locks import FileLock, holder

_HOLD = """
import sys, time
from pathlib import Path
from headrace.store.locks import FileLock
assert FileLock(Path(sys.argv[1])).acquire({"port": 8080})
print("held", flush=True)
time.sleep(60)
"""


def test_a_killed_holder_leaves_no_lock_behind(tmp_path):
    path = tmp_path / "server.lock"
    assert holder(path) is None
    child = subprocess.Popen([sys.executable, "-c", _HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout.readline() == "held\n"
        assert holder(path) == {"pid": child.pid, "port": 8080}
        assert FileLock(path).acquire() is False
        os.kill(child.pid, signal.SIGKILL)
    assert holder(path) is None
    mine = FileLock(path)
    assert mine.acquire() is True
    assert holder(path) == {"pid": os.getpid()}
    mine.release()
    assert holder(path) is None


def test_one_who_only_looks_keeps_nobody_from_the_lock(tmp_path):
    path = tmp_path / "server.lock"
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    looks_away = threading.Timer(0.05, os.close, [descriptor])
    looks_away.start()
    mine = FileLock(path)
    assert mine.acquire() is True
    mine.release()
    looks_away.join()
