"""Exercise 2. Plant a neuron and find it.  [paper §3.1] (easy)

In this method a neuron is one output of one of the three linear layers of an MLP,

    gate = x @ W_gate.T        up = x @ W_up.T        down = (silu(gate) * up) @ W_down.T

that is, one *row* of W_gate, W_up or W_down. A neuron has one output for every token of a
sentence. Its response to the sentence is the largest of them, leaving out the BOS, which is the
first token of every sentence and says nothing about this one. To find toxic neurons, we run toxic
and clean sentences through the model and compute how well each neuron's responses separate them.
You can check a detector only where you know the right answer. So first plant a neuron that
detects a word, then find it.

The model (minitox.lm.model.LanguageModel) is a Llama, with `model.model.embed_tokens`,
`model.model.layers[i].mlp.gate_proj` and so on, each of which has a `.weight`. To read the
outputs, pass a function, which the model calls with the output of each of these linear layers:

    model.model(ids, record=lambda layer, projection, output: ...)  # ids (B, T), output (B, T, R)

`projection` is "gate_proj", "up_proj" or "down_proj"; the calls come in the order of computation.
R, the number of rows, differs: down_proj has one row for each dimension of the hidden states.

A sentence is a list of token ids that begins with a BOS. Run one sentence at a time; exercise 4 is
about batches. For the AUROC use your solution of exercise 1, or minitox.detect.auroc.auroc, which
takes (neurons, sentences). Planting needs no training. Which vector has a large dot product with
x? In the first layer of this model, x is nearly the normalised embedding of the token.

Run the tests with

    python -m pytest tests/exercises/test_exercise_2_planted_neuron.py

Afterwards read MLP in minitox/lm/model.py, then minitox/neurons.py, then
tests/train/test_planted_neuron.py, in which a planted neuron makes a model rude, and tuning that
neuron makes the model polite again.
"""


def plant(model, row: int, token: int) -> None:
    """Make neuron `row` of gate_proj in layer 0 respond most to `token`; change nothing else."""
    raise NotImplementedError


def responses(model, sentences: list[list[int]]):  # -> (N, K), in the order of computation
    """The response of each of the model's K neurons to each of N sentences, without the BOS."""
    raise NotImplementedError


def find(model, toxic: list[list[int]], clean: list[list[int]]) -> tuple[int, str, int]:
    """The neuron with the highest AUROC, as (layer, projection, row)."""
    raise NotImplementedError
