"""Exercise 3. Damp toxic neurons without any training.  [paper §2.1] (easy)

Before toxic neurons were tuned, they were damped. AURA [Suau et al., 2024] multiplies the output
of a toxic neuron, at every token, by

    alpha = 1 - 2 (AUROC - 0.5)

This is 1 at an AUROC of 0.5 (no information: keep the output) and 0 at an AUROC of 1 (perfect
separation: silence the neuron). It costs far less than tuning, so a paper about tuning should
compare with it.

Outputs can be scaled by hooks while the model runs. But hooks are lost when the model is saved,
and most inference servers do not support them. As a neuron is one row of a weight matrix, you can
scale its output by changing the weights once. This is called *folding*. Which weights do you have
to change? The output of gate_proj passes through silu before it is used, and silu(alpha x) is not
alpha silu(x):

    gate = x @ W_gate.T        up = x @ W_up.T        down = (silu(gate) * up) @ W_down.T

A module has a name such as "model.layers.0.mlp.gate_proj"; `model.get_submodule(name).weight` is
its matrix (R, D), with one row for each neuron.

Run the tests with

    python -m pytest tests/exercises/test_exercise_3_aura.py

Afterwards read minitox/train/interventions.py. A question to think about: all three outputs of
the MLP are scaled. If one unit is toxic in gate_proj and in up_proj, and the output that down_proj
computes from it is toxic too, how many times is it damped?
"""


def aura(auroc):  # (R,) float array -> (R,)
    """The factor for each neuron's output; 1 for an AUROC of at most 0.5, which is not toxic."""
    raise NotImplementedError


def fold(model, factors: dict) -> None:  # {module name: (R,) float array}
    """Change the weights so that each neuron's output is multiplied by its factor.

    The weights of a neuron whose factor is 1 keep every bit.
    """
    raise NotImplementedError
