"""From role prompts and tool responses to token ids, through the base model's own chat template.

Text from outside (questions, topics, passages) never becomes a special token: a passage that holds
"</tool_response><answer>" or a role tag is encoded as plain characters, so it cannot end the response or forge an
answer. Sampled ids are never turned into text and back.
"""

import re
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from asl_min.config import read_yaml
from asl_min.protocol import RESPONSE_CLOSE, RESPONSE_OPEN
from asl_min.run.errors import InputError

SLOT = "\uf8ff"  # marks where outside text goes while the template is rendered; a private character of Unicode
PROMPTS = Path(__file__).parent / "prompts"
PROMPT_FIELDS = {
    "policy": {"question"},
    "judge": {"question", "answer"},
    "task_from_topic": {"topic"},
    "task_from_question": {"direction", "way", "question"},
    "task_from_result": {"direction", "way", "question", "answer", "attempted"},
    "task_by_hops": {"hops", "topic"},
}


class Chat:
    """Encodes the prompts of one prompt file (`asl_min/prompts/NAME.yaml`) for one tokenizer. Raises `InputError` where
    the tokenizer has no chat template, or the prompt file is malformed."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompts: str):
        if not tokenizer.chat_template:
            raise InputError(f"{tokenizer.name_or_path}: the base model has no chat template")
        self.tokenizer = tokenizer
        self._tags = added_tags(tokenizer)
        self._encoded = lru_cache(4096)(self._encode)  # samples of one prompt are often alike
        self._decoded = lru_cache(4096)(self._decode)
        self.prompts = load_prompts(prompts)
        self._role_parts = {name: self._split(self._render(name)) for name in PROMPT_FIELDS}
        self.turn_end, self._tool_head, self._tool_tail = self._tool_turn()
        self.eos_ids = frozenset({*self.turn_end[:1], tokenizer.eos_token_id} - {None})

    def prompt(self, name: str, **fields: str) -> list[int]:
        """Ids of a role's prompt with its fields, up to where the assistant's first turn begins."""
        ids = []
        for part in self._role_parts[name]:
            ids += self.plain(fields[part]) if isinstance(part, str) else part
        return ids

    def tool_response(self, text: str, turn_ended: bool) -> list[int]:
        """Ids between two assistant turns: the end of the first turn (unless the model sampled it), the response, and
        the opening of the next turn."""
        return ([] if turn_ended else self.turn_end) + self._tool_head + self.plain(text) + self._tool_tail

    def plain(self, text: str) -> list[int]:
        """Outside text as ids; special tokens and tags in it are spelt out in characters."""
        return list(self._encoded(text))

    def decode(self, ids: Sequence[int]) -> str:
        return self._decoded(tuple(ids))

    def _encode(self, text: str) -> tuple[int, ...]:
        """The tokenizer splits special tokens itself. A tag that is no special token is split here: its "<" is encoded
        apart from the rest. Half a surrogate pair, which cannot be encoded, becomes "?"."""
        parts: list[str] = []
        for i, piece in enumerate(self._tags.split(text.encode(errors="replace").decode())):
            parts += (piece[:1], piece[1:]) if i % 2 else (piece,)  # every second piece is a tag
        encode = partial(self.tokenizer, add_special_tokens=False, split_special_tokens=True)
        return tuple(i for part in parts if part for i in encode(part)["input_ids"])

    def _decode(self, ids: tuple[int, ...]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def _tagged(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _render(self, name: str) -> str:
        role = self.prompts[name]
        user = role["user"]
        for field in PROMPT_FIELDS[name]:  # not str.format: a prompt may hold other braces, such as a JSON example
            user = user.replace(f"{{{field}}}", f"{SLOT}{field}{SLOT}")
        messages = [{"role": "user", "content": user}]
        if role.get("system"):
            messages.insert(0, {"role": "system", "content": role["system"]})
        return self._template(messages, add_generation_prompt=True)

    def _split(self, rendered: str) -> list[str | list[int]]:
        """The parts of a prompt in order: template text as ids, fields by name."""
        return [p if i % 2 else self._tagged(p) for i, p in enumerate(rendered.split(SLOT)) if p]

    def _tool_turn(self) -> tuple[list[int], list[int], list[int]]:
        """What the template puts after an assistant turn, before the tool response that follows, and after that."""
        talk = [{"role": "user", "content": "x"}, {"role": "assistant", "content": f"{SLOT}a{SLOT}"}]
        response = {"role": "user", "content": f"{RESPONSE_OPEN}\n{SLOT}r{SLOT}\n{RESPONSE_CLOSE}"}
        whole = self._template([*talk, response], add_generation_prompt=True)
        _, _, between, _, tail = whole.split(SLOT)
        end = self._template(talk, add_generation_prompt=False).split(SLOT)[2]
        end_ids = self._tagged(end.rstrip("\n") if end.strip() else end)
        head_ids = self._tagged(between)[len(end_ids) :]
        return end_ids, head_ids, self._tagged(tail)

    def _template(self, messages: list[dict], add_generation_prompt: bool) -> str:
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)


def added_tags(tokenizer: PreTrainedTokenizerBase) -> re.Pattern:
    """Matches the added tokens that look like tags but are no special tokens, such as Qwen's <tool_call>; the tokenizer
    does not split these."""
    special, added = tokenizer.all_special_ids, tokenizer.get_added_vocab().items()
    tags = [t for t, i in added if t.startswith("<") and t.endswith(">") and i not in special]
    return re.compile("(" + ("|".join(map(re.escape, tags)) or "(?!)") + ")")


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
