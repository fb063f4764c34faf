"""A dense index: flat FAISS over normalised E5 vectors ("query: " and "passage: " before the texts, mean pooling)."""

import threading
from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from asl_min.run.errors import InputError
from asl_min.search.passages import PassageFile, progress

VECTORS = "flat.faiss"
ENCODER_TOKENS = 256
ENCODER_BATCH = 256


class DenseIndex:
    """The index of a folder that `build_dense` wrote."""

    def __init__(self, folder: Path, encoder: str):
        self.index, self.encoder = faiss.read_index(str(folder / VECTORS)), Encoder(encoder)

    def search(self, queries: list[str], top_k: int) -> list[list[tuple[int, float]]]:
        """For each query the places of passages in the corpus with their scores, best first."""
        scores, places = self.index.search(self.encoder("query: ", queries), top_k)
        rows = zip(places, scores, strict=True)
        return [[(int(i), float(s)) for i, s in zip(*row, strict=True) if i >= 0] for row in rows]


def build_dense(folder: Path, passages: PassageFile, encoder: str) -> None:
    """Raises `InputError` where the encoder cannot be loaded or a row is malformed."""
    encode, index = Encoder(encoder), None
    for start in progress(range(0, len(passages), ENCODER_BATCH), "encoding"):
        batch = range(start, min(start + ENCODER_BATCH, len(passages)))
        vectors = encode("passage: ", [passages[i].contents for i in batch])
        index = index or faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
    faiss.write_index(index, str(folder / VECTORS))


class Encoder:
    """Texts to normalised float32 vectors [texts, width]: mean of the last hidden states over tokens, as E5 was
    trained. Raises `InputError` where no such model can be loaded."""

    def __init__(self, name: str):
        try:
            self.tokenizer, self.model = AutoTokenizer.from_pretrained(name), AutoModel.from_pretrained(name).eval()
        except (OSError, ValueError) as error:
            raise InputError(f"encoder: {name!r}: {str(error).splitlines()[0]}") from None
        self.model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.lock = threading.Lock()

    @torch.inference_mode()
    def __call__(self, prefix: str, texts: Sequence[str]) -> np.ndarray:
        whole, limits = [prefix + text for text in texts], {"truncation": True, "max_length": ENCODER_TOKENS}
        with self.lock:
            batch = self.tokenizer(whole, padding=True, return_tensors="pt", **limits).to(self.model.device)
            hidden, mask = self.model(**batch).last_hidden_state, batch["attention_mask"][..., None]
        mean = (hidden * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(mean.float(), dim=-1).cpu().numpy()
