"""A local scorer: a text classifier, read from a Hugging Face folder."""

from hashlib import sha256
from pathlib import Path

import torch

from minitox.errors import InputError
from minitox.files import file_hash
from minitox.lm import checkpoint
from minitox.lm.batching import batches, pad
from minitox.lm.config import read_config
from minitox.lm.text import read_tokenizer, tokenizer_errors
from minitox.scorers.encoder_config import classifier_config
from minitox.scorers.encoder_model import ModernBERT, XLMRoberta

MAX_TOKENS = 512  # of a text; longer ones are cut
MAX_CHARACTERS = 32 * MAX_TOKENS  # of a text, before it is tokenized
BATCH_TOKENS = 4_096  # with padding
CHUNK = 256  # texts that are sorted by length together


class Encoder:
    """A scorer: the probability of a classifier's toxic output."""

    languages = None  # all: config.json does not name any

    def __init__(self, folder: Path, device="cpu", dtype=torch.float32):
        folder = Path(folder)
        config = read_config(folder, classifier_config)
        self.config = config
        self.device = device
        self.path = folder / "tokenizer.json"
        self.tokenizer = open_tokenizer(folder, config)  # before the weights, which take time
        self.model = load(folder, device, dtype)

        # config, tokenizer and weights determine the scores
        shards = sorted(set(checkpoint.weight_files(folder).values()))
        paths = [folder / "config.json", self.path, *shards]
        hashes = "".join(file_hash(path) for path in paths)
        self.name = f"encoder-{sha256(hashes.encode()).hexdigest()[:12]}"
        self.about = (
            f"{config.model_type}, toxic is output {config.toxic} {config.labels[config.toxic]!r} "
            f"of {len(config.labels)}, {'softmax' if config.softmax else 'sigmoid'}"
        )

    def score(self, texts: list[str], language: str):
        """Yield each text's score and status: "cut" if only its first tokens were read."""
        for start in range(0, len(texts), CHUNK):
            yield from self.score_chunk(texts[start : start + CHUNK])

    def score_chunk(self, texts):
        """Score some texts in batches of similar length."""
        answers = [None] * len(texts)
        cut = [text[:MAX_CHARACTERS] for text in texts]
        # half a surrogate pair becomes "?"
        encodable = [text.encode("utf-8", "replace").decode() for text in cut]
        with tokenizer_errors(self.path, "fails on a text"):
            encodings = self.tokenizer.encode_batch(encodable)
        self.check_ids(encodings)
        for batch in batches([len(encoding.ids) for encoding in encodings], BATCH_TOKENS):
            # 1) the outputs, in float64 on the CPU, since MPS has no float64
            ids = pad([encodings[i].ids for i in batch])  # (B, T)
            real = pad([encodings[i].attention_mask for i in batch]).bool()  # (B, T)
            logits = self.model(ids.to(self.device), real.to(self.device))  # (B, outputs)
            logits = logits.cpu().double()

            # 2) the probability of the toxic one
            probabilities = logits.softmax(-1) if self.config.softmax else logits.sigmoid()
            scores = probabilities[:, self.config.toxic].tolist()
            finite = logits.isfinite().all(-1)  # (B,)

            # 3) the answers, in the order of the texts
            for row, i in enumerate(batch):
                if not finite[row]:
                    answers[i] = (None, "failed: an output is not a finite number")
                else:
                    is_cut = encodings[i].overflowing or len(texts[i]) > MAX_CHARACTERS
                    answers[i] = (scores[row], "cut" if is_cut else "scored")
        return answers

    def check_ids(self, encodings):
        """InputError for a token that the model has no embedding for, which a template may add."""
        highest = max((max(encoding.ids, default=0) for encoding in encodings), default=0)
        if highest >= self.config.vocab_size:
            raise InputError(
                f"{self.path}: a text has token {highest}, "
                f"but the model has only {self.config.vocab_size}"
            )


def open_tokenizer(folder, config):
    """A folder's tokenizer; its own post-processor adds the special tokens, and it cuts a text."""
    tokenizer = read_tokenizer(folder / "tokenizer.json", config.vocab_size)
    positions = min(MAX_TOKENS, config.max_position_embeddings - config.first_position)
    if not 0 < tokenizer.num_special_tokens_to_add(False) < positions:
        raise InputError(
            f"{folder / 'tokenizer.json'}: adds no special tokens, "
            f"or leaves no room for text in {positions} positions"
        )
    tokenizer.enable_truncation(positions)
    return tokenizer


def load(folder: Path, device="cpu", dtype=torch.float32):
    """The classifier of a folder; InputError if a tensor is missing, left over or misshapen."""
    return checkpoint.load(folder, device, dtype, build=classifier)


def classifier(folder):
    config = read_config(folder, classifier_config)
    if config.model_type == "xlm-roberta":
        return XLMRoberta(config)
    return ModernBERT(config)
