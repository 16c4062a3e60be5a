"""What the name of a model means: the folder OUT/models/NAME, and its row in the report.

    [OBJECTIVE-][SELECTOR-]STRATEGY[-order-N][-DRAW][@RATE]

multilingual                                 tuned on the loss of replies, chosen by AUROC
random-3                                     the third draw of random neurons
dpo-taylor-random-per-language-order-2-1     another objective, selector and order; the first draw
multilingual@0.004                           at one of several learning rates

The default objective and selector, the first order, and a rate that was chosen are not in a name.
random is the name of all its draws together. Any other text is a name too: that of a strategy that
minitox does not have, such as the model of a user.
"""

import re
from dataclasses import dataclass, replace

from minitox.neurons import SELECTORS
from minitox.train.strategies import DRAWN, OBJECTIVES, ORDERED, SCALED, TUNED, TWINS

# A strategy with what may follow it; order 1 is not in a name
STRATEGY = re.compile(
    f"(?P<strategy>{'|'.join(TUNED + SCALED)})"
    "(-order-(?P<order>[2-9]|[1-9][0-9]+))?"
    "(-(?P<draw>[1-9][0-9]*))?"
)


@dataclass(frozen=True)
class ModelName:
    """The parts of a name, of which `str` makes the text that `parse` reads."""

    strategy: str  # or any text that minitox does not know
    objective: str = "sft"
    by: str = "auroc"  # the selector
    order: int = 1  # of the languages; 1 is the one that is asked for
    draw: int | None = None  # from 1, if neurons are drawn
    rate: str | None = None  # None: the only one, or the chosen one

    @classmethod
    def parse(cls, text: str) -> "ModelName":
        """The parts of any text."""
        # 1) the rate; only the text before it is split at hyphens, as 1e-05 has one
        text, at, after = text.partition("@")
        rate = after if at else None

        # 2) the objective and the selector
        objective, text = split_prefix(text, OBJECTIVES)
        by, text = split_prefix(text, SELECTORS)

        # 3) the order and the draw
        strategy, order, draw = split_strategy(text)
        return cls(strategy, objective, by, order, draw, rate)

    def __str__(self) -> str:
        text = self.prefix + self.strategy
        if self.order > 1:
            text += f"-order-{self.order}"
        if self.draw is not None:
            text += f"-{self.draw}"
        if self.rate is not None:
            text += f"@{self.rate}"
        return text

    @property
    def prefix(self) -> str:
        """What precedes the strategy: an objective and a selector other than the defaults."""
        text = ""
        if self.objective != "sft":
            text += f"{self.objective}-"
        if self.by != "auroc":
            text += f"{self.by}-"
        return text

    @property
    def common_name(self) -> str:
        """The name that all draws and rates have in common."""
        return str(replace(self, draw=None, rate=None))

    @property
    def first_name(self) -> str:
        """The name of draw 1 in the first order."""
        return str(replace(self, order=1, draw=self.draw and 1))

    @property
    def is_of_all_draws(self) -> bool:
        """Whether it is the name of several draws together."""
        return self.strategy in DRAWN and self.draw is None and self.rate is None

    @property
    def twin(self) -> str | None:
        """The draws that the model is compared with: dpo-random for dpo-multilingual.

        None if there are none, as for a model at one of several rates.
        """
        if self.strategy not in TWINS or self.rate is not None:
            return None
        return str(replace(self, strategy=TWINS[self.strategy]))

    def at_rate(self, lr: float) -> str:
        """The name of the model at one of several learning rates."""
        return str(replace(self, rate=f"{lr:g}"))


def split_prefix(text: str, values: tuple[str, ...]) -> tuple[str, str]:
    """The value that a text begins with, and the rest; the first value is in no name."""
    default, *others = values
    for value in others:
        if text.startswith(f"{value}-"):
            return value, text.removeprefix(f"{value}-")
    return default, text


def split_strategy(text: str) -> tuple[str, int, int | None]:
    """The strategy, the order and the draw that a text consists of.

    A text of another form is all strategy.
    """
    match = STRATEGY.fullmatch(text)
    if match is None:
        return text, 1, None
    strategy, order, draw = match.group("strategy", "order", "draw")

    # a number after a strategy that has no orders, or no draws, is none
    if order and strategy not in ORDERED:
        return text, 1, None
    if draw and strategy not in DRAWN:
        return text, 1, None
    return strategy, int(order or 1), int(draw) if draw else None
