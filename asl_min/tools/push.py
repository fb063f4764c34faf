"""A run's adapters as a model of the hub, and uploads by huggingface_hub."""

from pathlib import Path

import httpx2
from huggingface_hub import CommitOperationAdd, HfApi

from asl_min.model import ROLES
from asl_min.run import hub, run_dir
from asl_min.run.errors import InputError
from asl_min.tools.cards import model_card

ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


def model_files(run: Path, round_number: int, repo: str, licence: str | None = None) -> dict[str, Path | bytes]:
    """What a model repository gets, by its path there: the policy's adapter, those of the other roles in folders of
    their names where they have their own, the run's prompts and settings, and the card."""
    config = run_dir.read_config(run)
    adapters = run_dir.latest_adapters(run, config, round_number, None)
    others = [role for role in ROLES if role != "policy"] if config.adapters == "per_role" else []
    found: dict[str, Path | bytes] = {name: adapters["policy"] / name for name in ADAPTER}
    found |= {f"{role}/{name}": adapters[role] / name for role in others for name in ADAPTER}
    found |= {name: run / name for name in ("prompts.yaml", "config.yaml")}
    return found | {"README.md": model_card(run, round_number, "policy", repo, licence).encode()}


def sizes(files: dict[str, Path | bytes]) -> dict[str, int]:
    """Bytes by path."""
    return {name: len(f) if isinstance(f, bytes) else f.stat().st_size for name, f in files.items()}


def push(repo: str, kind: str, files: dict[str, Path | bytes]) -> str:
    """Upload files in one commit to a repository, which is made, private, if it is not there. Returns its address.
    `kind`: "model" or "dataset". Raises `InputError` where the hub does not answer or refuses."""
    if not hub.reached():
        raise InputError(f"--push: {repo}: the hub does not answer")
    api = HfApi()
    operations = [CommitOperationAdd(name, file) for name, file in files.items()]
    try:
        url = api.create_repo(repo, repo_type=kind, private=True, exist_ok=True)
        api.create_commit(repo, operations, commit_message="Upload by asl_min", repo_type=kind)
    except (OSError, ValueError, httpx2.HTTPError) as error:
        raise InputError(f"--push: {repo}: {' '.join(str(error).split())[:300]}") from None
    return str(url)
