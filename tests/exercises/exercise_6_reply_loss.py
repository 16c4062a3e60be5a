"""Exercise 6. Learn the answer, not the insult.  [paper §3.3] (medium)

A model is tuned on pairs of a rude prompt and a polite reply. nanoGPT computes the loss on every
token. Here that would teach the model to write the rude prompts too. So the loss is computed on
the reply alone, given the prompt. It includes the token that ends the reply: a model that never
sees a reply end learns not to stop. This happens where one token serves both as padding and as the
end, and the loss ignores that token everywhere. The paper does not describe its loss, and its
fully tuned Llama writes empty replies.

The solution has about ten lines, with many chances to be off by one. logits[:, t] predicts the
token at t + 1, so the last token of the prompt predicts the first token of the reply. Padding has
token id 0, which can also occur in a reply. And the mean is over all tokens of the batch: in a
mean of the pairs' means, each token of a short reply would count more.

`model(ids)` takes token ids (B, T) and returns logits (B, T, V). Attention is causal, so padding on
the right needs no mask except in the loss.

Run the tests with

    python -m pytest tests/exercises/test_exercise_6_reply_loss.py

Afterwards read minitox/train/loss.py: reply_loss, the definition, chunked_reply_loss, which holds a
few logits in memory at a time, and add_gradients, which splits a batch that is too large for the
memory into micro-batches, and still computes the mean over the whole batch.
"""


def reply_loss(model, prompts: list[list[int]], replies: list[list[int]], end: int):  # -> ()
    """Mean cross-entropy over all tokens of all replies, given their prompts.

    The token `end` follows each reply and counts as one of its tokens. backward() must work on the
    result, which is a tensor.
    """
    raise NotImplementedError
