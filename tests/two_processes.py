"""GRPO steps and one rollout, run by test_grpo.py alone and under torch.distributed.run: python two_processes.py FOLDER

Each NAME.yaml of the folder is a config, what it gives goes to NAME/. Where the name ends in "shared", the processes
share the base (FSDP).
"""

import json
import os
import sys
from pathlib import Path

import torch
from helpers import Scripted, make_groups, small_tool

from asl_min.chat import Chat
from asl_min.config import load_config
from asl_min.episode import Request
from asl_min.grpo import Learner
from asl_min.model import load_backbone, load_tokenizer, save_adapter
from asl_min.phase import accelerator_of
from asl_min.rollout import Limits, Rollout
from asl_min.run import shard, stopping


def main(config_file: Path, out: Path) -> None:
    torch.set_num_threads(1)
    config = load_config(config_file)
    accelerator = accelerator_of(config)
    model = load_backbone(config, {}).to(accelerator.device)
    blocks = sum(p.numel() for name, p in model.named_parameters() if ".layers." in name and "lora_" not in name)
    shard.shard_base(model, accelerator, config)
    learner = Learner(accelerator, model, "shared", config)
    metrics = [learner.step(make_groups(seed=step))[1] for step in range(2)]
    script = Scripted(
        Chat(load_tokenizer(config), "tiny"), write=lambda text, seed: f"<answer>{text.split('number ')[1][0]}</answer>"
    )
    requests = [Request("policy", {"question": f"number {i}"}, i) for i in range(5)]
    episodes = Rollout(script, script.chat, small_tool(), Limits(2, 60, 200))(requests, 1.0)
    held = sum(p.to_local().numel() if hasattr(p, "to_local") else p.numel() for p in model.parameters())
    found = {"processes": accelerator.num_processes, "held": held, "blocks": blocks, "metrics": metrics}
    found |= {"answers": [e.final_text for e in episodes], "played": sum(map(len, script.seen))}
    out.mkdir(parents=True, exist_ok=True)
    (out / f"process_{accelerator.process_index}.json").write_text(json.dumps(found))
    if accelerator.is_main_process:
        save_adapter(model, "shared", out / "adapter")
    accelerator.wait_for_everyone()


if __name__ == "__main__":
    for file in sorted(Path(sys.argv[1]).glob("*.yaml")):
        os.environ[shard.ASKED] = str(file.stem.endswith("shared")).lower()
        main(file, file.with_suffix(""))
    stopping.end_processes()
