"""From role prompts and tool responses to token ids, through the base model's own chat template.

Text that comes from outside (questions, topics, passages) is encoded with special tokens split, so that a passage
holding "</tool_response><answer>" or a role tag is read as plain characters. Sampled ids are never re-encoded.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from asl_min.config import read_yaml
from asl_min.protocol import RESPONSE_CLOSE, RESPONSE_OPEN
from asl_min.run.errors import InputError

SLOT = "\uf8ff"  # stands for outside text while the template is rendered; cannot occur in a template
PROMPTS = Path(__file__).parent / "prompts"
PROMPT_FIELDS = {
    "policy": {"question"},
    "judge": {"question", "answer"},
    "task_from_topic": {"topic"},
    "task_from_question": {"direction", "way", "question"},
}


class Chat:
    """Encodes the prompts of one prompt file (`asl_min/prompts/NAME.yaml`) for one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompts: str):
        if not tokenizer.chat_template:
            raise InputError(f"{tokenizer.name_or_path}: the base model has no chat template")
        self.tokenizer = tokenizer
        unsplit = [
            t
            for t, i in tokenizer.get_added_vocab().items()
            if t.startswith("<") and t.endswith(">") and i not in tokenizer.all_special_ids
        ]
        self._tags = re.compile(
            "(" + ("|".join(map(re.escape, unsplit)) or "(?!)") + ")"
        )  # such as Qwen's <tool_call>, which is no special token
        self._encoded, self._decoded = (
            lru_cache(4096)(self._encode),
            lru_cache(4096)(self._decode),
        )  # samples of one prompt mostly say the same
        self.prompts = load_prompts(prompts)
        self._role_parts = {name: self._split(self._render(name)) for name in PROMPT_FIELDS}
        closing, opening = self._tool_turn()
        self.turn_end = closing
        self.eos_ids = frozenset(closing[:1]) | frozenset(
            [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
        )
        self._tool_head, self._tool_tail = opening

    def prompt(self, name: str, **fields: str) -> list[int]:
        """Ids of a role's prompt up to where the assistant's first turn begins."""
        ids = []
        for part in self._role_parts[name]:
            ids += self.plain(fields[part]) if isinstance(part, str) else part
        return ids

    def tool_response(self, text: str, turn_ended: bool) -> list[int]:
        """Ids between two assistant turns: the end of the turn (unless the model sampled it), the response, the next
        opening."""
        return ([] if turn_ended else self.turn_end) + self._tool_head + self.plain(text) + self._tool_tail

    def plain(self, text: str) -> list[int]:
        """Outside text as ids, special tokens and tags in it spelt out as characters."""
        return list(self._encoded(text))

    def decode(self, ids: Sequence[int]) -> str:
        return self._decoded(tuple(ids))

    def _encode(self, text: str) -> tuple[int, ...]:
        pieces = self._tags.split(
            text.encode(errors="replace").decode()
        )  # tags, which have odd places, lose their first character to a piece of its own
        parts = [
            part for i, piece in enumerate(pieces) for part in ((piece[:1], piece[1:]) if i % 2 else (piece,)) if part
        ]
        return tuple(
            i
            for part in parts
            for i in self.tokenizer(part, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        )

    def _decode(self, ids: tuple[int, ...]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def _tagged(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _render(self, name: str) -> str:
        role = self.prompts[name]
        user = role["user"]
        for field in PROMPT_FIELDS[name]:  # other braces are plain text, such as an example of a tool call
            user = user.replace(f"{{{field}}}", f"{SLOT}{field}{SLOT}")
        messages = [{"role": "user", "content": user}]
        if role.get("system"):
            messages.insert(0, {"role": "system", "content": role["system"]})
        return self._template(messages, add_generation_prompt=True)

    def _split(self, rendered: str) -> list[str | list[int]]:
        """Template text, as ids, and the names of the fields that stand between, in turn."""
        return [p if i % 2 else self._tagged(p) for i, p in enumerate(rendered.split(SLOT)) if p]

    def _tool_turn(self) -> tuple[list[int], tuple[list[int], list[int]]]:
        """What the template puts after an assistant turn, and around the tool response that follows."""
        talk = [{"role": "user", "content": "x"}, {"role": "assistant", "content": f"{SLOT}a{SLOT}"}]
        response = {"role": "user", "content": f"{RESPONSE_OPEN}\n{SLOT}r{SLOT}\n{RESPONSE_CLOSE}"}
        whole = self._template([*talk, response], add_generation_prompt=True)
        _, _, between, _, tail = whole.split(SLOT)
        end = self._template(talk, add_generation_prompt=False).split(SLOT)[2]
        end_ids = self._tagged(end.rstrip("\n") if end.strip() else end)
        head_ids = self._tagged(between)[len(end_ids) :]
        return end_ids, (head_ids, self._tagged(tail))

    def _template(self, messages: list[dict], add_generation_prompt: bool) -> str:
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)


def load_prompts(name_or_path: str) -> dict[str, dict[str, str]]:
    """A prompt file by the name of a shipped one or by path. Raises `InputError` where a role's prompt or a field is
    missing."""
    path = PROMPTS / f"{name_or_path}.yaml"
    path = path if path.is_file() else Path(name_or_path)
    if not path.is_file():
        raise InputError(f"prompts: no file {name_or_path!r} and none of that name in {PROMPTS}")
    prompts = read_yaml(path.read_bytes(), str(path))
    for name, fields in PROMPT_FIELDS.items():
        role = prompts.get(name) if isinstance(prompts, dict) else None
        user = role.get("user") if isinstance(role, dict) else None
        if not isinstance(user, str):
            raise InputError(f"{path}: key '{name}.user' is missing")
        for field in fields:
            if f"{{{field}}}" not in user:
                raise InputError(f"{path}: '{name}.user' does not contain {{{field}}}")
    return prompts
