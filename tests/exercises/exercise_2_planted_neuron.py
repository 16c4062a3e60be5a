"""Exercise 2. Plant a neuron and find it.  [paper §3.1] (easy)

In this method a neuron is one output of one of the three linear layers of an MLP,

    gate = x @ W_gate.T        up = x @ W_up.T        down = (silu(gate) * up) @ W_down.T

that is, one *row* of W_gate, W_up or W_down. It gives a number to every token; its response to a sentence is the largest of
these, the BOS left out, which is the first token of every sentence and says nothing about it. Toxic neurons are found by
running toxic and clean sentences through the model and asking which responses tell them apart. Whether a detector works can
only be known where the answer is known. So plant a neuron yourself, then find it.

The model (minitox.lm.model.LanguageModel) is a Llama, with `model.model.embed_tokens`, `model.model.layers[i].mlp.gate_proj`
and so on, each with its `.weight`. It has no hooks; instead you hand it a function that it calls with each MLP output:

    model.model(ids, record=lambda layer, projection, output: ...)      # ids (B, T); output (B, T, R)

`projection` is "gate_proj", "up_proj" or "down_proj", in the order in which they are computed. R differs: down_proj has as
many rows as the model is wide.

Sentences are lists of token ids, each beginning with a BOS. Run them one at a time; exercise 4 is about batches. For AUROC
take your exercise 1, or minitox.detect.auroc.auroc, which wants (neurons, sentences). To plant takes no training: with which
vector has x a large dot product? In the first layer of this model x is nearly the normalised embedding of the token.

    python -m pytest tests/exercises/test_exercise_2_planted_neuron.py

Afterwards read MLP in minitox/lm/model.py, then minitox/neurons.py, then tests/train/test_planted_neuron.py, where a planted
neuron makes a model rude, and tuning it makes the model polite again.
"""


def plant(model, row: int, token: int) -> None:
    """Make neuron `row` of gate_proj in layer 0 respond to `token` more than to any other; change nothing else."""
    raise NotImplementedError


def responses(
    model, sentences: list[list[int]]
):  # -> (N, K), K neurons of the whole model in the order of computation
    """Each neuron's response to each sentence: its largest output over the tokens, BOS left out."""
    raise NotImplementedError


def find(model, toxic: list[list[int]], clean: list[list[int]]) -> tuple[int, str, int]:
    """The neuron of highest AUROC, as (layer, projection, row)."""
    raise NotImplementedError
