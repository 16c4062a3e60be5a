"""LANDeRMT's importance of a neuron: how much its weights matter to the loss on polite replies.

    importance[n] = mean over batches of | W[n] · dL / dW[n] |

`W[n]` is the neuron's row, and `L` the mean loss over a batch's reply tokens. By Taylor's theorem,
`W[n] · dL / dW[n]` is to first order how much `L` would fall if the row were 0.
"""

import torch


def importance(
    weights: dict[str, torch.Tensor],  # (R, D) of each module; they need gradients
    batches: list[list],  # of training pairs
    add_gradients,  # a batch -> its mean loss (); adds the gradients to the weights' `.grad`
    show=lambda batches: None,  # progress, called after every batch
) -> dict[str, torch.Tensor]:  # (R,)
    """The importance of every row to the loss, as float32; 0 without batches.

    No activation is stored. ValueError if a loss or a gradient is not finite.
    [LANDeRMT, Zhu et al. 2024]
    """
    total = {}
    for name, weight in weights.items():
        total[name] = torch.zeros(len(weight), device=weight.device)  # (R,)
    for done, batch in enumerate(batches, start=1):
        # 1) the gradients of this batch alone
        for weight in weights.values():
            weight.grad = None
        loss = add_gradients(batch)

        # 2) the change of the loss along each row
        # DEVIATION: LANDeRMT multiplies each activation by its gradient; ours multiplies weights,
        # which gives the sum over a batch's tokens, in which signs may cancel
        for name, weight in weights.items():
            products = weight.detach().float() * weight.grad.float()  # (R, D)
            total[name] += products.sum(dim=1).abs()
        if not loss.isfinite():
            raise ValueError(f"the loss on batch {done} of {len(batches)} is {loss.item():g}")
        show(done)

    # 3) the mean over the batches
    for name, values in total.items():
        total[name] = values / max(1, len(batches))
        if not total[name].isfinite().all():
            raise ValueError(f"the gradients of {name} contain NaN or infinity")
    return total
