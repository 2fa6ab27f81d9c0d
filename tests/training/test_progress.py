"""The bar, on a real terminal; plain lines elsewhere."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = """
import time
from zoo.training.progress import Progress
progress = Progress(1000, 200)
for _ in range(8):
    time.sleep(0.15)
    progress.advance(100, 0.5, 12345.0)
progress.line(1000, "eval", {"loss": 0.25})
progress.close()
"""


def test_on_a_terminal():
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=secondary, stdout=secondary, cwd=ROOT)
    os.close(secondary)
    shown = b""
    try:
        while block := os.read(primary, 4096):
            shown += block
    except OSError:  # Linux says so when the other side is closed.
        pass
    os.close(primary)
    assert process.wait() == 0
    text = shown.decode()
    assert "loss 0.5000, 12,345 examples/s" in text
    assert "1000/1000" in text and "20%" in text, "it starts where the checkpoint was"
    assert "step 1,000/1,000  eval: loss 0.25" in text


def test_elsewhere():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == "step 1,000/1,000  eval: loss 0.25\n" and done.stdout == ""


def test_nobody_reads_any_more():
    """A closed pipe: the run goes on, and its exit code is its own."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + "print('done')"], stdout=subprocess.PIPE, stderr=writer, cwd=ROOT
    )
    os.close(writer)
    assert done.returncode == 0 and done.stdout == b"done\n"
