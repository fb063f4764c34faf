"""A real vLLM server on the CPU, as `make test-servers` installs it, for tests and the bench: the flags that last."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2

from asl_min.config import Config
from asl_min.run.errors import InputError
from reproduce.bench.loopback import free_port

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("SERVERS_VENV", ROOT / "build" / "servers-venv")) / "bin" / "python"
START_SECONDS = 900
ENVIRONMENT = {
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # bound to a core, it would wait for whoever else computes there
    "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": "1800",  # after 300 a slow step ends the engine
    "VLLM_NO_USAGE_STATS": "1",
    "TORCHDYNAMO_DISABLE": "1",  # --enforce-eager leaves some functions that a first request would compile
    "HF_HUB_OFFLINE": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}


def flags(config: Config) -> list[str]:
    """Of a server for runs of this config.

    Chunked prefill is off: with a request's own seed it ends the engine on a CPU ("CPU Generator does not use offset"),
    and so a step must have room for a whole context. It should not have more, nor a higher rank than the adapter's:
    the CPU kernels of LoRA copy the adapter's weights for every token of a step. Blocks are short, so that the prefix
    cache, which holds whole ones, finds the beginning of an episode's next turn.
    """
    tokens = str(config.max_episode_tokens)
    return [
        *("--dtype", "float32", "--enforce-eager", "--generation-config", "vllm"),
        *("--logprobs-mode", "processed_logprobs"),
        *("--enable-lora", "--max-loras", "2", "--max-lora-rank", str(max(config.lora_rank, 8))),
        *("--max-model-len", tokens, "--no-enable-chunked-prefill", "--max-num-batched-tokens", tokens),
        *("--block-size", "32", "--max-num-seqs", str(min(config.generation_batch_size, 64))),
    ]


@dataclass
class VllmServer:
    """A server of one base on a port of the loopback. `start` returns when it answers."""

    config: Config
    threads: int
    log: Path
    port: int
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> float:
        """Seconds until it answers. Raises `InputError` where the environment is missing, or with the end of its log
        where it does not come up."""
        if not PYTHON.is_file():
            raise InputError(f"{PYTHON}: no such file; make test-servers installs vLLM")
        base = str(self.config.path(self.config.base_model).absolute())
        address = ["--host", "127.0.0.1", "--port", str(self.port), "--model", base]
        command = [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", *address, *flags(self.config)]
        environment = os.environ | ENVIRONMENT | {"OMP_NUM_THREADS": str(self.threads)}
        environment.pop("PYTHONPATH", None)
        begun = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, cwd=self.log.parent, start_new_session=True
            )
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() - begun > START_SECONDS:
                self.kill()
                raise InputError(f"{self.log}: vLLM does not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.5)
        return time.monotonic() - begun

    def _answers(self) -> bool:
        with suppress(httpx2.HTTPError):
            return httpx2.get(f"{self.url}/health", timeout=5).is_success
        return False

    def kill(self) -> None:
        """At once, with its engine and worker."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def vllm_server(config: Config, log: Path, threads: int = 1) -> Iterator[VllmServer]:
    """A server that answers; it ends with the block."""
    server = VllmServer(config, threads, log, free_port())
    server.start()
    try:
        yield server
    finally:
        server.kill()
