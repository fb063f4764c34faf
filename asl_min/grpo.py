"""GRPO on token-level episodes: groups as an explicit axis, clipped objective, LoRA weights, under Accelerate.

`advantages` and `grpo_loss` are the formulas; `Learner.step` is one step of training with them. The loss is summed over
the sampled tokens of all episodes of a minibatch and divided by their number (token-level normalisation). Departures
from the paper's PPO: no critic, no GAE, no entropy bonus. Old log-probabilities are the trainer's, never the sampler's;
their difference is logged. With `minibatches` > 1 they are recomputed before the first optimizer step; with 1 they are
those of the update's own forward pass, so that the ratio is 1 and the clip idle.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import reduce
from peft import PeftModel
from peft.helpers import disable_input_dtype_casting
from torch import nn
from torch.utils.checkpoint import checkpoint

from asl_min.config import Config
from asl_min.episode import Episode
from asl_min.model import hidden_states, logits_of, use
from asl_min.packing import MicroBatch, micro_batches
from asl_min.run.shard import hide_shards

LOGITS_AT_ONCE = 2**27  # half a GiB of float32; more are computed in chunks and again in the backward pass


def advantages(rewards: np.ndarray) -> np.ndarray:
    """A = (r - mean r) / (std r + 1e-6) within each group: advantages [prompts, samples] of rewards [prompts, samples].
    Exactly 0 in groups whose rewards are all equal, or one of which is not finite."""
    rewards = np.asarray(rewards, dtype=np.float64)
    usable = np.isfinite(rewards).all(1, keepdims=True)
    rewards = np.where(usable, rewards, 0.0)
    spread = rewards.max(1, keepdims=True) - rewards.min(1, keepdims=True) > 1e-9
    centred = rewards - rewards.mean(1, keepdims=True)
    return np.where(spread, centred / (rewards.std(1, keepdims=True) + 1e-6), 0.0)


def group_advantages(group: Sequence[Episode]) -> np.ndarray:
    """Advantages [samples] of a group of episodes, by their rewards."""
    return advantages(np.array([[episode.reward for episode in group]]))[0]


def grpo_loss(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    clip: float,
    weights: torch.Tensor | float = 1.0,
) -> torch.Tensor:
    """Loss summed over sampled tokens; all tensors are [tokens]. With w = exp(logp - old logp), a token's loss is

        -weight min(w A, clip(w, 1 - c, 1 + c) A)

    `weights` correct for samples that a server drew from slightly other probabilities, see `sampler_weights`."""
    ratio = torch.exp(logprobs - old_logprobs)
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return -(weights * torch.minimum(ratio * advantages, clipped * advantages)).sum()


def sampler_weights(old_logprobs: torch.Tensor, sampler_logprobs: torch.Tensor, cap: float) -> torch.Tensor:
    """Truncated importance weights [tokens]: min(trainer's over sampler's probability, cap)."""
    return torch.exp(old_logprobs - sampler_logprobs).clamp(max=cap)


def k3(logprobs: torch.Tensor, reference_logprobs: torch.Tensor) -> torch.Tensor:
    """Estimate of KL(policy || reference) a token [tokens]: exp(d) - d - 1, d = reference logp - logp."""
    gap = reference_logprobs - logprobs
    return torch.exp(gap) - gap - 1


class Scorer(nn.Module):
    """Log-probability and entropy of sampled tokens, at the sampling temperature: the only forward pass that trains."""

    def __init__(self, model: PeftModel, temperature: float, recompute: bool = False):
        super().__init__()
        self.model, self.temperature, self.recompute = model, temperature, recompute

    def forward(
        self,
        ids: torch.Tensor,
        depths: torch.Tensor,
        ends: torch.Tensor | None,
        nodes: torch.Tensor,
        parents: torch.Tensor,
    ):
        """Trees as in `packing.MicroBatch` -> log-probabilities and entropies (nats) of `nodes`, both [nodes]."""
        mask = None
        if ends is not None:  # a node sees those above it and itself: the ones whose subtree it lies in
            place = torch.arange(ids.shape[1], device=ids.device)
            mask = ((place <= place[:, None]) & (place[:, None] < ends[:, None, :]))[:, None]
        if self.recompute:  # transformers does it in training mode only; there is no dropout that this would switch on
            self.model.train(torch.is_grad_enabled())
        hidden = hidden_states(self.model, ids, attention_mask=mask, position_ids=depths, use_cache=False).flatten(0, 1)
        self.model.eval()
        rows = max(LOGITS_AT_ONCE // self.model.config.vocab_size, 1)
        chunks = list(zip(hidden[parents].split(rows), ids.flatten()[nodes].split(rows), strict=True))
        if len(chunks) == 1:
            return self._tokens(*chunks[0])
        scored = [checkpoint(self._tokens, *chunk, use_reentrant=False) for chunk in chunks]
        return tuple(torch.cat(part) for part in zip(*scored, strict=True))

    def _tokens(self, hidden: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probability of each token after its hidden state, and the entropy there; logits are [tokens, vocabulary]
        in float32."""
        logprobs = (logits_of(self.model, hidden) / self.temperature).log_softmax(-1)
        chosen = logprobs.gather(-1, tokens[:, None])[:, 0]
        with torch.no_grad():
            entropy = -(logprobs.exp() * logprobs).sum(-1)
        return chosen, entropy


class Learner:
    """Updates one adapter. Each phase starts with a new AdamW."""

    def __init__(self, accelerator: Accelerator, model: PeftModel, adapter: str, config: Config):
        use(model, adapter, trainable=True)
        self.accelerator, self.config, self.model, self.adapter = accelerator, config, model, adapter
        self.optimizer_steps = 0
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self._first = [p.detach().clone() for p in self.parameters] if config.kl_reference == "previous" else []
        optimizer = torch.optim.AdamW(
            self.parameters,
            lr=config.learning_rate,
            weight_decay=0.0,
            betas=(0.9, 0.99),
            fused=accelerator.device.type == "cuda",
        )
        scorer = Scorer(model, config.temperature, config.gradient_checkpointing)
        hide_shards(scorer)
        self.scorer, self.optimizer = accelerator.prepare(scorer, optimizer)

    def state(self) -> dict:
        """Weights and optimizer, to go on from later: the tensors themselves, not copies."""
        return {
            "weights": [p.detach() for p in self.parameters],
            "optimizer": self.optimizer.state_dict(),
            "optimizer_steps": self.optimizer_steps,
        }

    def load(self, state: dict) -> None:
        self._set(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.optimizer_steps = state["optimizer_steps"]

    def step(
        self, groups: Sequence[Sequence[Episode]], scores: Sequence[np.ndarray] | None = None
    ) -> tuple[list[list[Episode]], dict[str, float]]:
        """Update on groups [prompts][samples]; returns them with advantages filled in, and the step's metrics.
        `scores`: the advantages, [samples] for each group; None: those of the rewards.

        Metrics are defined in docs/metrics.md. Groups whose advantages are all 0 are skipped; if there are no others,
        nothing is updated.
        """
        use(self.model, self.adapter, trainable=True)
        scores = [group_advantages(group) for group in groups] if scores is None else scores
        groups = [
            [replace(e, advantage=float(a)) for e, a in zip(group, row, strict=True)]
            for group, row in zip(groups, scores, strict=True)
        ]
        live = [[e for e in group if e.n_sampled] for group, row in zip(groups, scores, strict=True) if row.any()]
        sums = _Sums(zero_variance=len(groups) - len(live), groups=len(groups))
        parts = [
            [e for group in live[part :: self.config.minibatches] for e in group]
            for part in range(self.config.minibatches)
        ]
        batches = [self._share(part) for part in parts if part]
        with self._inputs_as_they_are():
            if len(batches) > 1:
                batches = [[self._with_old(batch) for batch in part] for part in batches]
            for number, part in enumerate(batches):
                self._optimizer_step(part, sums, measure_kl=number == 0)
        return groups, sums.metrics(self.accelerator)

    def _inputs_as_they_are(self) -> AbstractContextManager[None]:
        """Autocast gives the adapters' layers their input in its own format; peft need not turn it into theirs."""
        return disable_input_dtype_casting(self.model, self.accelerator.mixed_precision != "no")

    def _share(self, episodes: list[Episode]) -> list[MicroBatch]:
        """This process's micro-batches; every process gets equally many, filled up with copies that carry no loss."""
        every, world = micro_batches(episodes, self.config.micro_batch_tokens), self.accelerator.num_processes
        mine = every[self.accelerator.process_index :: world]
        nothing = {
            name: getattr(every[-1], name)[:0]
            for name in ("nodes", "parents", "token_nodes", "advantages", "sampler_logprobs")
        }
        empty = replace(every[-1], **nothing)
        return mine + [empty] * (-(-len(every) // world) - len(mine))

    @torch.no_grad()
    def _with_old(self, batch: MicroBatch) -> MicroBatch:
        return replace(batch, old_logprobs=self._score(self.scorer, batch)[0].cpu())

    def _score(self, scorer: nn.Module, batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities and entropies, both [sampled tokens]."""
        device = self.accelerator.device
        trees = (batch.ids, batch.depths, batch.ends, batch.nodes, batch.parents)
        with self.accelerator.autocast():
            logprobs, entropies = scorer(*(x if x is None else x.to(device) for x in trees))
        return logprobs[batch.token_nodes.to(device)], entropies[batch.token_nodes.to(device)]

    def _optimizer_step(self, part: list[MicroBatch], sums: "_Sums", measure_kl: bool) -> None:
        tokens = torch.tensor(float(sum(len(b.advantages) for b in part)), device=self.accelerator.device)
        tokens = reduce(tokens, "sum").item()
        for number, batch in enumerate(part):
            last = number == len(part) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.scorer):
                loss = self._loss(batch, sums, measure_kl and number == 0) / tokens
                # DDP averages gradients over processes; the loss is a mean over the tokens of all of them
                self.accelerator.backward(loss * self.accelerator.num_processes)
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
        if torch.isfinite(norm):
            self.optimizer.step()
            self.optimizer_steps += 1
        self.optimizer.zero_grad()
        sums.add_step(norm, tokens)

    def _loss(self, batch: MicroBatch, sums: "_Sums", measure_kl: bool) -> torch.Tensor:
        """Loss of one micro-batch, summed over its sampled tokens; `sums` gets what the metrics need of it."""
        config = self.config
        # before the pass that is trained, since weights are exchanged for it
        reference = self._reference(batch) if config.kl_coef or measure_kl else None
        logprobs, entropies = self._score(self.scorer, batch)
        old = logprobs.detach() if batch.old_logprobs is None else batch.old_logprobs.to(logprobs.device)
        sampler = batch.sampler_logprobs.to(logprobs.device)
        weights = sampler_weights(old, sampler, config.ratio_cap) if config.ratio_cap else 1.0
        loss = grpo_loss(logprobs, old, batch.advantages.to(logprobs.device), config.clip, weights)
        if reference is not None:
            kl = k3(logprobs, reference)
            loss = loss + config.kl_coef * kl.sum() if config.kl_coef else loss
            sums.add_kl(kl)
        sums.add_tokens(loss, entropies, is_clipped(logprobs, old, config.clip), (old - sampler).abs())
        return loss

    @torch.no_grad()
    def _reference(self, batch: MicroBatch) -> torch.Tensor:
        """Log-probabilities [sampled tokens] of what the KL is to: the backbone with its adapter switched off, or with
        the adapter as it was at the start of the phase."""
        with self._at_start() if self.config.kl_reference == "previous" else self.model.disable_adapter():
            return self._score(self.accelerator.unwrap_model(self.scorer), batch)[0]

    @contextmanager
    def _at_start(self) -> Iterator[None]:
        """Inside, the adapter is as it was at the start of the phase."""
        now = [p.detach().clone() for p in self.parameters]
        self._set(self._first)
        yield
        self._set(now)

    @torch.no_grad()
    def _set(self, weights: Sequence[torch.Tensor]) -> None:
        for parameter, weight in zip(self.parameters, weights, strict=True):
            parameter.copy_(weight)


def is_clipped(logprobs: torch.Tensor, old_logprobs: torch.Tensor, clip: float) -> torch.Tensor:
    """Whether each token's ratio lies outside 1 - clip to 1 + clip [tokens]."""
    ratio = torch.exp(logprobs.detach() - old_logprobs)
    return (ratio < 1 - clip) | (ratio > 1 + clip)


class _Sums:
    """Running sums of a step's metrics, averaged over tokens, groups or optimizer steps, and over processes."""

    def __init__(self, zero_variance: int, groups: int):
        self.share = zero_variance / max(groups, 1)
        self.token_sums, self.kl, self.norms, self.tokens = np.zeros(5), np.zeros(2), [], 0.0

    def add_tokens(self, loss: torch.Tensor, entropies: torch.Tensor, clipped: torch.Tensor, gap: torch.Tensor) -> None:
        sums = [len(entropies), loss.item(), entropies.sum().item(), clipped.sum().item(), gap.sum().item()]
        self.token_sums += np.array(sums, dtype=np.float64)

    def add_kl(self, k3: torch.Tensor) -> None:
        self.kl += (len(k3), k3.sum().item())

    def add_step(self, norm: torch.Tensor, tokens: float) -> None:
        self.norms.append(float(norm))
        self.tokens += tokens

    def metrics(self, accelerator: Accelerator) -> dict[str, float]:
        sums = torch.tensor([*self.token_sums, *self.kl], dtype=torch.float64, device=accelerator.device)
        n, loss, entropy, clipped, gap, n_kl, k3 = reduce(sums, "sum").tolist()
        per_token = {"loss": loss, "entropy": entropy, "clip_ratio": clipped, "sampling_logp_difference": gap}
        found = {key: value / n if n else 0.0 for key, value in per_token.items()}
        norm = float(np.mean(self.norms)) if self.norms else 0.0
        return found | {
            "kl": k3 / n_kl if n_kl else 0.0,
            "frac_reward_zero_std": self.share,
            "grad_norm": norm if np.isfinite(norm) else None,  # an update was skipped
            "loss_tokens": int(self.tokens),
        }
