"""Runs a generation server that cannot load new weights, and restarts it whenever the trainer has written some. Needs
no package.

    python tgi_sidecar.py FOLDER -- text-generation-launcher --model-id {} --port 80 …

FOLDER is the trainer's `server_folder`; its file CURRENT names the checkpoint to serve, which stands in the command for
{}. A server that dies is started again, after a pause. Ends, with the server, on SIGTERM.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

CURRENT = "CURRENT"
POLL_SECONDS, STOP_SECONDS, PAUSE_SECONDS = 0.2, 30.0, 5.0


def current(folder: Path) -> str | None:
    try:
        return (folder / CURRENT).read_text().strip() or None
    except OSError:
        return None


def stop(server: subprocess.Popen | None) -> None:
    if server and server.poll() is None:
        server.terminate()
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def watch(folder: Path, command: list[str]) -> None:
    """For ever: the command with the checkpoint that CURRENT names."""
    served, server = None, None
    try:
        while True:
            wanted = current(folder)
            if wanted and wanted != served:
                stop(server)
                print(f"serving {wanted}", flush=True)
                served, server = wanted, subprocess.Popen([part.replace("{}", wanted) for part in command])
            elif server and server.poll() is not None:
                print(f"the server ended with code {server.returncode}; starting it again", file=sys.stderr, flush=True)
                time.sleep(PAUSE_SECONDS)
                served = None
            time.sleep(POLL_SECONDS)
    finally:
        stop(server)


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[2] != "--":
        raise SystemExit("usage: python tgi_sidecar.py FOLDER -- COMMAND with {} for the checkpoint")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    watch(Path(sys.argv[1]), sys.argv[3:])
