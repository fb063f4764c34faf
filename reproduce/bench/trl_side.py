"""TRL's GRPOTrainer on the same task: its trainer, and a search `rollout_func` over transformers' own `generate`.

The protocol, the tool and the budgets are asl_min's; how tokens are sampled, scored and trained on is TRL's and
transformers'. A turn of many episodes is generated in one left-padded batch. It stops on the tags themselves where they
are single tokens, as in the tiny bases' vocabulary, else by transformers' `stop_strings`.
"""

import time
from collections.abc import Callable

import torch
from datasets import Dataset
from transformers import GenerationConfig, PreTrainedModel, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from asl_min import protocol
from asl_min.chat import Chat
from asl_min.config import Config
from asl_min.sampling.generate import turn_end
from asl_min.search.tool import SearchTool, respond

ROWS = (
    64  # of one call of generate: on two cores faster than 128, 256, 512 or 1024 (48, 44, 32, 27, 21 episodes a second)
)


def search_rollout(
    model: PreTrainedModel, chat: Chat, tool: SearchTool, config: Config, questions: list[str]
) -> dict[str, list]:
    """One episode a question: `prompt_ids`, `completion_ids`, `env_mask` (1 on sampled tokens) and the `answer`s."""
    parts = [
        _search_rollout(model, chat, tool, config, questions[i : i + ROWS]) for i in range(0, len(questions), ROWS)
    ]
    return {key: [x for part in parts for x in part[key]] for key in parts[0]} | {"logprobs": None}


@torch.no_grad()
def _search_rollout(
    model: PreTrainedModel, chat: Chat, tool: SearchTool, config: Config, questions: list[str]
) -> dict[str, list]:
    prompts = [chat.prompt("policy", question=question) for question in questions]
    rows = [list(p) for p in prompts]
    masks = [[] for _ in prompts]
    answers: list[str | None] = [None] * len(prompts)
    active = list(range(len(prompts)))
    vocabulary = chat.tokenizer.get_vocab()
    by_text = not all(tag in vocabulary for tag in protocol.STOP_STRINGS)
    stops = [*chat.eos_ids, *(vocabulary[tag] for tag in protocol.STOP_STRINGS if tag in vocabulary)]
    settings = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=config.max_turn_tokens,
        eos_token_id=stops,
        pad_token_id=0,
        stop_strings=list(protocol.STOP_STRINGS) if by_text else None,
    )
    for turn in range(config.max_turns):
        if not active:
            break
        width = max(len(rows[i]) for i in active)
        ids = torch.zeros(len(active), width, dtype=torch.long)
        seen = torch.zeros(len(active), width, dtype=torch.long)
        for place, i in enumerate(active):
            ids[place, width - len(rows[i]) :] = torch.tensor(rows[i])
            seen[place, width - len(rows[i]) :] = 1
        asked = {"input_ids": ids, "attention_mask": seen, "generation_config": settings}
        sampled = model.generate(**asked, tokenizer=chat.tokenizer if by_text else None)[:, width:].tolist()
        going = []
        for i, new in zip(active, sampled, strict=True):
            ends = (n + 1 for n in range(len(new)) if new[n] in stops or (by_text and turn_end(chat, new[: n + 1])))
            end = next(ends, len(new))
            new = new[: min(end, config.max_episode_tokens - len(rows[i]))]
            rows[i] += new
            masks[i] += [1] * len(new)
            text = chat.decode(new)
            call = protocol.tool_call(text)
            if call is None:
                answers[i] = protocol.answer(text)
                continue
            glue = chat.tool_response(call.error or respond(tool, list(call.queries)), turn_ended=False)
            if turn < config.max_turns - 1 and len(rows[i]) + len(glue) < config.max_episode_tokens:
                rows[i] += glue
                masks[i] += [0] * len(glue)
                going.append(i)
        active = going
    completions = [row[len(prompt) :] for row, prompt in zip(rows, prompts, strict=True)]
    return {"prompt_ids": prompts, "completion_ids": completions, "env_mask": masks, "answer": answers}


class StepClock(TrainerCallback):
    """Seconds of every optimizer step, and what a hook says after it; training ends when the hook returns True."""

    def __init__(self, after: Callable[[int, float], bool] | None = None):
        self.seconds: list[float] = []
        self.after = after

    def on_step_begin(self, args, state, control, **kwargs):
        self.start = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(time.perf_counter() - self.start)
        if self.after and self.after(len(self.seconds), sum(self.seconds)):
            control.should_training_stop = True


def trainer_of(
    model,
    chat: Chat,
    config: Config,
    questions: list[str],
    play: Callable[[list[str]], dict],
    steps: int,
    clock: StepClock,
    folder: str,
):
    """A GRPOTrainer for `steps` steps of policy_prompts x policy_samples episodes. `play` returns a rollout with its
    `reward`s."""
    per_device = config.policy_prompts * config.policy_samples // 4
    arguments = GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=4,
        num_generations=config.policy_samples,
        max_completion_length=config.max_episode_tokens,
        max_steps=steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant",
        max_grad_norm=config.max_grad_norm,
        adam_beta2=0.99,
        temperature=1.0,
        beta=0.0,
        seed=config.seed,
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        activation_checkpointing=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    return GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, reward, **_: reward,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": questions}),
        processing_class=chat.tokenizer,
        rollout_func=lambda prompts, _: play(prompts),
        callbacks=[clock],
    )
