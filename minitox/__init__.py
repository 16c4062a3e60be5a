"""Find a language model's neurons that react to toxic text, tune only those, measure the change.

Letters for shapes; a file that uses one otherwise says so at its top:

    B  sentences in a batch            D  hidden_size, the width of the residual stream
    T  tokens in a padded sentence     M  intermediate_size, the width of the MLP
    N  labelled sentences              H  head_dim, the width of one attention head
    R  rows of one weight matrix       V  vocab_size
    K  neurons of the whole model      L  layers
    S  neurons sampled for controls    n  chosen rows of a weight, or tokens of replies

Words with one meaning:

    neuron     one output of gate_proj, up_proj or down_proj: one row of one weight matrix
    response   of a neuron to a sentence: its output, pooled over the sentence's tokens
    AUROC      of a neuron: the probability that a toxic sentence gets a larger response than a
               clean one, ties counting half
    mask       a boolean for every neuron, or for every row of a weight: chosen or not
    reply      what a model writes after a prompt
    stage      one part of the tuning of a model, with an optimizer of its own
    plan       how one model is made from the base model
"""

__version__ = "0.1.0"
