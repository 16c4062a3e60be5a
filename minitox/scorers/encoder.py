"""A local scorer: a text classifier, read from a Hugging Face folder."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import tokenizers
import torch

from minitox.errors import InputError
from minitox.files import file_hash
from minitox.lm.batching import batches, pad
from minitox.lm.checkpoint import check_names_and_shapes, read_tensor, weight_files
from minitox.lm.text import Tokenizer
from minitox.scorers.encoder_config import EncoderConfig, read_config
from minitox.scorers.encoder_model import ModernBERT, XLMRoberta
from minitox.scorers.scores import Answer

MAX_TOKENS = 512  # of a text; longer ones are cut
BATCH_TOKENS = 4_096  # with padding
CHUNK = 256  # texts that are sorted by length together


class Encoder:
    """A scorer: the probability of a classifier's toxic output."""

    languages = None  # all: config.json does not name any

    def __init__(self, folder: Path, device="cpu", dtype=torch.float32):
        folder = Path(folder)
        config = read_config(folder)
        self.device = device
        self.tokenizer = open_tokenizer(folder, config)  # before the weights, which take time
        self.model = load(folder, device, dtype)
        self.toxic = config.toxic
        self.softmax = outputs_exclude_each_other(config)

        # config, tokenizer and weights determine the scores
        shards = sorted(set(weight_files(folder).values()))
        paths = [folder / "config.json", folder / "tokenizer.json", *shards]
        hashes = "".join(file_hash(path) for path in paths)
        self.name = f"encoder-{sha256(hashes.encode()).hexdigest()[:12]}"
        label = config.labels[config.toxic]
        self.about = (
            f"{config.model_type}, toxic is output {config.toxic} {label!r} "
            f"of {len(config.labels)}, {'softmax' if self.softmax else 'sigmoid'}"
        )

    def score(self, texts: list[str], language: str) -> Iterator[Answer]:
        """Yield each text's score, with "cut" if only its first tokens were read."""
        for start in range(0, len(texts), CHUNK):
            yield from self.score_chunk(texts[start : start + CHUNK])

    @torch.inference_mode()
    def score_chunk(self, texts: list[str]) -> list[Answer]:
        """Score some texts in batches of similar length."""
        # half a surrogate pair becomes "?"
        encodable = [text.encode("utf-8", "replace").decode() for text in texts]
        encodings = self.tokenizer.encode_batch(encodable)
        lengths = [len(encoding.ids) for encoding in encodings]
        answers = [None] * len(texts)
        for batch in batches(lengths, BATCH_TOKENS):
            # 1) the outputs, in float64 on the CPU, since MPS has no float64
            ids = pad([encodings[i].ids for i in batch])  # (B, T)
            real = pad([encodings[i].attention_mask for i in batch]).bool()  # (B, T)
            logits = self.model(ids.to(self.device), real.to(self.device))  # (B, outputs)
            logits = logits.cpu().double()

            # 2) the probability of the toxic one
            probabilities = logits.softmax(-1) if self.softmax else logits.sigmoid()
            scores = probabilities[:, self.toxic].tolist()
            finite = logits.isfinite().all(-1)  # (B,)

            # 3) the answers, in the order of the texts
            for row, i in enumerate(batch):
                if not finite[row]:
                    answers[i] = (None, "failed: an output is not a finite number")
                elif encodings[i].overflowing:
                    answers[i] = (scores[row], "cut")
                else:
                    answers[i] = (scores[row], "scored")
        return answers


def open_tokenizer(folder: Path, config: EncoderConfig) -> tokenizers.Tokenizer:
    """A folder's tokenizer; its own post-processor adds the special tokens, and it cuts a text."""
    tokenizer = Tokenizer(folder, config).tokenizer
    positions = min(MAX_TOKENS, config.max_position_embeddings - config.first_position)
    if not 0 < tokenizer.num_special_tokens_to_add(False) < positions:
        raise InputError(
            f"{folder / 'tokenizer.json'}: adds no special tokens, "
            f"or leaves no room for text in {positions} positions"
        )
    tokenizer.enable_truncation(positions)
    return tokenizer


def outputs_exclude_each_other(config: EncoderConfig) -> bool:
    """Whether the outputs are classes, for a softmax, and not labels with a sigmoid each."""
    outputs = len(config.labels)
    if config.problem_type is None:
        # published toxicity classifiers have two classes, or several labels
        return outputs == 2
    return config.problem_type == "single_label_classification" and outputs > 1


def load(folder: Path, device="cpu", dtype=torch.float32) -> XLMRoberta | ModernBERT:
    """The classifier of a folder; InputError if a tensor is missing, left over or misshapen."""
    config = read_config(folder)
    family = XLMRoberta if config.model_type == "xlm-roberta" else ModernBERT
    with torch.device("meta"):  # shapes only
        model = family(config)

    # compare names and shapes before any tensor is read
    files = weight_files(folder)
    files.pop("roberta.embeddings.position_ids", None)  # 0, 1, 2 and so on, in older folders
    check_names_and_shapes(folder, config, model, files)

    weights = {}
    for name in model.state_dict():
        weights[name] = read_tensor(files[name], name).to(device, dtype, copy=True)
    model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False)
