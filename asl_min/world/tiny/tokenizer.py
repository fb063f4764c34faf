"""The tiny base's tokenizer: byte-level BPE in which a name reads the same wherever it stands.

A space is merged into the lower-case word after it but stands alone before capitals and digits, so that "Paris" is the
same tokens after a space, a quote or a tag: copying names is most of what the tiny model does.
"""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from asl_min.protocol import TAGS

PIECES = r" ?[a-z]+|[A-Z]+[a-z]*|[0-9]|\s|[^\sA-Za-z0-9]"
USER, ASSISTANT, SYSTEM, END, PAD = "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|pad|>"
JSON_PIECES = ['{"name": "retrieve", "arguments": {"query": "', '"}}']
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of at most `vocab_size` ids, its special tokens and the two constant pieces of a tool call
    included."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [PAD, END, USER, ASSISTANT, SYSTEM, *TAGS]
    size = vocab_size - len(JSON_PIECES)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        min_frequency=2,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, SYSTEM, *TAGS],
    )
    fast.add_tokens(JSON_PIECES)
    fast.chat_template = TEMPLATE
    return fast
