"""The optimizer step that multiplies gradients by neuron masks.  [paper §3.3]

A neuron is a row of a weight matrix; a mask (R,) chooses rows. Masking the gradient is not enough
to keep the other rows frozen. In AdamW, weight decay shrinks rows without a gradient, momentum
moves rows that had a gradient earlier, and the norm that gradients are clipped to would include
frozen rows. So decay, both moments and the norm are restricted to the chosen rows, too.

Weights in bfloat16 are trained through a float32 copy, the master weights: bfloat16 has 8
significant bits, so an update of a thousandth of a weight would round to nothing.

`RowAdamW` in row_optim.py makes the same update and holds no state for the other rows.
"""

import math

import torch


class MaskedAdamW:
    """AdamW restricted to the rows that the masks choose: the reference implementation."""

    def __init__(
        self,
        weights,  # each (R, D), or (R,); their `.grad` is read
        masks,  # each (R,) bool: the rows that are trained
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        decay: float = 0.01,
    ):
        self.weights = weights
        self.betas = betas
        self.eps = eps
        self.decay = decay
        self.steps = 0
        self.state = {name: empty_state(weight.detach()) for name, weight in weights.items()}
        self.masks = {}
        for name, mask in masks.items():
            # (R,) -> (R, 1), so that a mask multiplies whole rows
            self.masks[name] = mask.unsqueeze(1) if weights[name].dim() == 2 else mask

    def gradient_norms(self):  # -> (weights,)
        """Norm of each weight's masked gradient; not finite if any entry, frozen or not, is not."""
        masked = [weight.grad * self.masks[name] for name, weight in self.weights.items()]
        return norms(masked)  # infinity times 0 is NaN, so infinite gradients of frozen rows show

    @torch.no_grad()
    def step(self, lr: float, scale: float = 1.0):
        """One step of AdamW on the chosen rows, their gradients multiplied by `scale`."""
        self.steps += 1
        for name, weight in self.weights.items():
            mask = self.masks[name]  # (R, 1)
            state = self.state[name]

            # The method: only the chosen neurons get a gradient
            grad = weight.grad.float() * mask * scale

            # Weight decay, of the chosen rows alone
            master = state.get("master", weight)
            master.mul_(torch.where(mask, 1 - lr * self.decay, 1.0))

            # A masked gradient leaves moments at 0, and moments of 0 leave the weight as it is
            adam(master, grad, state, self.steps, lr, self.betas, self.eps)
            if master is not weight:
                weight.copy_(master)
            weight.grad = None


def empty_state(weight):
    """Both moments, zero, and float32 master weights if the weight is not float32."""
    state = {
        "exp_avg": torch.zeros_like(weight, dtype=torch.float32),
        "exp_avg_sq": torch.zeros_like(weight, dtype=torch.float32),
    }
    if weight.dtype != torch.float32:
        state["master"] = weight.float()
    return state


def adam(
    weight,  # (R, D) float32, changed in place
    grad,  # (R, D) float32
    state,  # both moments, (R, D) float32, changed in place
    step: int,  # counted from 1
    lr: float,
    betas: tuple[float, float],
    eps: float,
):
    """Adam's update, with the operations of torch.optim.AdamW in their order, to the same bits."""
    beta1, beta2 = betas
    exp_avg = state["exp_avg"]
    exp_avg_sq = state["exp_avg_sq"]

    # m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
    exp_avg.lerp_(grad, 1 - beta1)
    exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)

    # Both averages start at 0, and are too small in the first steps
    bias1 = 1 - beta1**step
    bias2 = 1 - beta2**step

    # w = w - lr m / (sqrt(v) + eps), with both corrected
    root = (exp_avg_sq.sqrt() / math.sqrt(bias2)).add_(eps)
    weight.addcdiv_(exp_avg, root, value=-lr / bias1)


def norms(grads: list[torch.Tensor]):  # -> (weights,)
    """Euclidean norm of each gradient."""
    # a sum over rows in float64 does not depend on how they are divided among processes
    dtype = torch.float32 if grads[0].device.type == "mps" else torch.float64
    of_weights = []
    for grad in grads:
        rows = grad.unsqueeze(-1).flatten(1)  # (R, D), and (R, 1) of (R,)
        of_rows = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float32)  # (R,)
        of_weights.append(torch.linalg.vector_norm(of_rows, dtype=dtype))
    return torch.stack(of_weights)
