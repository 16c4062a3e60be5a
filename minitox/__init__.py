"""Find the neurons of a language model that react to toxic text, tune only those, and measure what changed.

Letters used for shapes everywhere in this package:

    B  sentences in a batch            D  hidden_size, the width of the residual stream
    T  tokens in a padded sentence     M  intermediate_size, the width of the MLP
    N  labelled sentences              H  head_dim, the width of one attention head
    R  rows of one weight matrix       V  vocab_size
    K  neurons of the whole model      L  layers

Words used in one meaning only:

    neuron     one output of gate_proj, up_proj or down_proj, that is, one row of one weight matrix  [paper §3.1]
    response   of a neuron to a sentence: its output, pooled over the sentence's tokens
    AUROC      of a neuron: the probability that a toxic sentence gets a larger response than a clean one
    mask       a boolean for every neuron: chosen or not
    reply      what a model writes after a prompt
"""
