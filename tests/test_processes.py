import subprocess
import sys
import time
from pathlib import Path

import pytest

from headrace.processes import alive, created

LEADERLESS = """
import ctypes, sys, threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("ready", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


def _until(found):
    deadline = time.monotonic() + 30
    while not found():
        assert time.monotonic() < deadline, "it has not come about"
        time.sleep(0.01)


def test_a_child_that_is_not_alive_can_be_waited_for_at_once():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        born = created(child.pid)
        assert alive(child.pid, born)
        child.kill()
        _until(lambda: not alive(child.pid, born))
        assert child.poll() is not None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows such a process as a zombie")
def test_a_process_lives_until_its_last_thread_has_ended():
    with subprocess.Popen([sys.executable, "-c", LEADERLESS], stdout=subprocess.PIPE) as child:
        born = created(child.pid)
        assert child.stdout.readline() == b"ready\n"
        state = Path(f"/proc/{child.pid}/stat")
        _until(lambda: state.read_text().rpartition(")")[2].split()[0] == "Z")
        assert child.poll() is None
        assert alive(child.pid, born)
        child.kill()
        _until(lambda: not alive(child.pid, born))
        assert child.poll() is not None
