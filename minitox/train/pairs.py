"""What a language is tuned on: prompts with polite replies, as token ids.  [paper §3.2]"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """One prompt with its reply, in the model's chat format."""

    ids: list[int]  # the prompt, the reply, and the token that ends the reply
    start: int  # index of the reply's first token
    where: str  # file:line
    is_whole: bool = True  # False if a long text is cut or may be incomplete
    rejected: "Pair | None" = None  # the same prompt with a reply that the model should not give
    reference_log_p: float | None = None  # of the reply, by the base model; for DPO
    names: frozenset[str] = frozenset()  # ids of its prompt, which its translations share

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """Tokens before the reply; hashable, so that prompts can be compared in sets."""
        return tuple(self.ids[: self.start])

    @property
    def reply_tokens(self) -> int:
        """Number of tokens that the loss counts: the reply's, and the one that ends it."""
        return len(self.ids) - self.start


@dataclass(frozen=True)
class PairChoice:
    """Which pairs of a language are used."""

    pairs: int  # at most this many to train on
    max_tokens: int  # of the longest pair; rejected replies are cut there
    validation_share: float  # and as many for the test
    seed: int
    objective: str = "sft"  # "dpo": only pairs with a rejected reply


@dataclass
class Pairs:
    """The pairs of one language."""

    train: list[Pair]
    validation: list[Pair]  # choose the learning rate; their prompts are in no other list
    test: list[Pair]  # choose nothing; results are reported on them
    dropped: int  # number of pairs that were too long
    dropped_tokens: int  # tokens of the dropped pairs
    data_hash: str  # of the file that the pairs came from
    dropped_whole: bool = True  # False if the dropped pairs may have more tokens
    duplicates: int = 0  # rows of the file that repeat another
    unpaired: int = 0  # pairs without a rejected reply that DPO could use
    cut: int = 0  # rejected replies that were too long, of the pairs that were not
    translated: int = 0  # pairs left out because a translation is for validation or test
    has_ids: bool = False  # whether a pair has an id, so that the split depends on other languages

    @property
    def aside(self) -> dict[str, list[Pair]]:
        """The pairs that are not trained on, by what they are for."""
        return {"validation": self.validation, "test": self.test}
