"""Exercise 6. Learn the answer, not the insult.  [paper §3.3] (medium)

A model is tuned on pairs of a rude prompt and a polite reply. The loss of nanoGPT is over every token. Here that would teach
the model to write the rude prompts too. So the loss is over the reply alone, given the prompt. Also over the token that ends
the reply: a model that never sees a reply end learns to go on for ever, which happens wherever padding and end are one token
and the loss leaves all of that token out. The paper's fully tuned Llama gives empty replies, and its loss is not described.

It is ten lines, in which much can be wrong by one. logits[:, t] is about the token at t + 1. So the first token of the reply
is predicted at the last token of the prompt. Padding has token id 0, which may be a word of a reply as well. And the mean is
over all tokens of the batch: the mean of the pairs' means would make each token of a short reply count more.

`model(ids)` takes (B, T) token ids and returns logits (B, T, V). Attention is causal, so padding on the right needs no mask
but in the loss.

    python -m pytest tests/exercises/test_exercise_6_reply_loss.py

Afterwards read reply_loss in minitox/train/finetune.py, which makes no logits where there is no loss, and train_step, where a
batch too large for memory is computed in pieces, and the mean is still that of the whole.
"""


def reply_loss(
    model, prompts: list[list[int]], replies: list[list[int]], end: int
):  # -> () tensor, with its gradient
    """Mean cross-entropy, over all pairs, of each reply's tokens and of the token `end` after them, given the prompt."""
    raise NotImplementedError
