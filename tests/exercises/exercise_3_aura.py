"""Exercise 3. Damp toxic neurons without any training.  [paper §2.1] (easy)

Before anybody tuned toxic neurons they were turned down. AURA [Suau et al., 2024] multiplies the output of a toxic neuron, at
every token, by

    alpha = 1 - 2 (AUROC - 0.5)

which is 1 at an AUROC of 0.5 (it knows nothing: leave it) and 0 at 1 (it knows everything: silence it). It is the cheapest
rival of tuning, so a paper about tuning should be compared with it.

One can scale outputs while the model runs, with hooks. But hooks do not survive saving the model, and hardly any server runs
them. As a neuron is a row of a weight matrix, its output can be scaled in the weights once and for all. That is *folding*. In
which weights, though? The output of gate_proj goes through silu before anything else reads it, and silu(alpha x) is not alpha
silu(x).

    gate = x @ W_gate.T        up = x @ W_up.T        down = (silu(gate) * up) @ W_down.T

A module's name is "model.layers.0.mlp.gate_proj" or the like; `model.get_submodule(name).weight` is its matrix (R, D), one row
a neuron.

    python -m pytest tests/exercises/test_exercise_3_aura.py

Afterwards read minitox/train/interventions.py. Something to think about: all three outputs of the MLP are scaled. If one unit
is toxic in gate_proj and in up_proj, and so is what down_proj makes of it, how often is it damped?
"""


def aura(auroc):  # (R,) float array -> (R,)
    """The factor of each neuron's output. Neurons of AUROC 0.5 and less are not toxic, and left alone."""
    raise NotImplementedError


def fold(model, factors: dict) -> None:  # {module name: (R,) float array}
    """Change the weights so that each neuron's output is multiplied by its factor; a weight of factor 1 keeps every bit."""
    raise NotImplementedError
