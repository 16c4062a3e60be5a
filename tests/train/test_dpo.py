"""Direct preference optimisation: its equation, and the fast twin that agrees with it."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tiny import write_model
from tuning import PROCEDURE, some_pairs, with_rejected_replies

from minitox.lm import batching, checkpoint
from minitox.run import training
from minitox.train import dpo
from minitox.train.loss import add_gradients
from minitox.train.pairs import Pair

BETA = 0.3
OBJECTIVES = [dpo.dpo_objective(BETA, 0.1, reference) for reference in (True, False)]


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def dtype(request, monkeypatch):
    """In float64, which minitox does not use otherwise, rounding hides no mistake."""
    if request.param == torch.float64:
        monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    return request.param


@pytest.fixture
def base(folder, dtype):
    return checkpoint.load(folder).to(dtype)


@pytest.fixture
def model(tmp_path, dtype):
    """A model that is not the base model."""
    write_model(tmp_path / "tuned", seed=1)
    return checkpoint.load(tmp_path / "tuned").to(dtype).requires_grad_(True)


@pytest.fixture
def pairs(base):
    """Pairs whose log-probabilities by the base model are known."""
    return training.refer(base, with_rejected_replies(some_pairs(6)), PROCEDURE)


@pytest.fixture
def five_logits_at_once(model, monkeypatch):
    """The fast twin computes logits of five positions at a time."""
    monkeypatch.setattr(batching, "LOGITS_AT_ONCE", 5 * model.config.vocab_size)


def log_p_by_definition(model, pair: Pair):  # -> ()
    """The log-probability of each reply token and of the end, of one reply alone."""
    log_p = F.log_softmax(model(torch.tensor([pair.ids]))[0], dim=-1)  # (T, V)
    positions = range(pair.start, len(pair.ids))
    return sum(log_p[position - 1, pair.ids[position]] for position in positions)


def margin_by_definition(model, base, pair: Pair, beta: float = BETA):  # -> ()
    """beta (log pi(y_w) / ref(y_w) - log pi(y_l) / ref(y_l)), with both models at hand."""
    with torch.no_grad():
        reference = log_p_by_definition(base, pair)
        rejected_reference = log_p_by_definition(base, pair.rejected)
    chosen = log_p_by_definition(model, pair) - reference
    rejected = log_p_by_definition(model, pair.rejected) - rejected_reference
    return beta * (chosen - rejected)


def mean_loss_by_definition(model, base, pairs: list[Pair], smoothing: float = 0.1):  # -> ()
    """The mean over pairs of -log sigmoid(margin), the labels exchanged in a share of them."""
    total = 0
    for pair in pairs:
        sigmoid = 1 / (1 + torch.exp(-margin_by_definition(model, base, pair)))
        total = total - (1 - smoothing) * sigmoid.log() - smoothing * (1 - sigmoid).log()
    return total / len(pairs)


def gradients(model) -> dict[str, torch.Tensor]:
    """The gradient of every weight; all are None afterwards."""
    grads = {name: weight.grad for name, weight in model.named_parameters()}
    model.zero_grad()
    return grads


def add(model, pairs, objective, tokens: int = 1_000):  # -> ()
    """The mean loss of a batch; adds its gradients."""
    return add_gradients(model, pairs, objective, tokens)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("tokens", [1_000, 90, 1])
def test_loss_and_gradients_are_those_of_autograd_on_the_equation(
    model, base, pairs, objective, tokens, dtype, five_logits_at_once
):
    expected = mean_loss_by_definition(model, base, pairs)
    expected.backward()
    grads = gradients(model)
    added = add(model, pairs, objective, tokens)
    assert added.item() == pytest.approx(expected.item(), rel=1e-6)
    assert not added.requires_grad
    close = 1e-9 if dtype == torch.float64 else 5e-6
    for name, grad in gradients(model).items():
        assert (grad - grads[name]).norm() <= close * grads[name].norm(), name


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_loss_of_several_pairs_is_a_sum_and_needs_no_gradients(model, base, pairs, objective):
    expected = mean_loss_by_definition(model, base, pairs).item() * len(pairs)
    with torch.inference_mode():
        assert objective.loss(model, pairs).item() == pytest.approx(expected, rel=1e-6)
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("reference", [True, False])
def test_margins_and_accuracy_are_those_of_the_equation(model, base, pairs, reference):
    procedure = replace(PROCEDURE, objective="dpo", beta=BETA, reference=reference)
    log_p = training.log_probabilities(model, dpo.both_replies(pairs), procedure)
    numbers = dpo.preferences(pairs, log_p, BETA)
    margins = [margin_by_definition(model, base, pair).item() for pair in pairs]
    assert 0 < sum(margin > 0 for margin in margins) < len(margins)
    assert numbers["margin"] == pytest.approx(sum(margins) / 6, rel=1e-6, abs=1e-5)
    assert numbers["accuracy"] == sum(margin > 0 for margin in margins) / 6
    tokens = sum(pair.reply_tokens for pair in pairs)
    total = -sum(log_p_by_definition(model, pair).item() for pair in pairs)
    assert numbers["reply_loss"] == pytest.approx(total / tokens, rel=1e-6)
    assert set(dpo.preferences([], torch.zeros(0), BETA).values()) == {None}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_base_model_prefers_nothing_to_itself(base, pairs, objective):
    mean = objective.loss(base, pairs).item() / len(pairs)
    assert mean == pytest.approx(math.log(2), rel=1e-6)


def test_with_label_smoothing_a_margin_can_be_too_large():
    """The loss is lowest where sigmoid(margin) is the share of labels that are right."""
    margins = torch.tensor([math.log(0.9 / 0.1)], requires_grad=True)
    dpo.dpo_loss(margins, 0.1).sum().backward()
    assert margins.grad.item() == pytest.approx(0, abs=1e-7)
    certain = dpo.dpo_loss(torch.tensor([0.0, 2.0, 50.0]))
    assert certain.tolist() == pytest.approx([math.log(2), math.log(1 + math.exp(-2)), 0])
    assert dpo.dpo_loss(torch.tensor([50.0]), 0.1).item() == pytest.approx(5)


def test_a_large_negative_margin_has_a_finite_loss_and_a_gradient():
    """Where log(sigmoid(x)), computed in two steps, is minus infinity."""
    margins = torch.tensor([-1_000.0], requires_grad=True)
    dpo.dpo_loss(margins).sum().backward()
    assert margins.grad.item() == -1


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_both_replies_of_a_pair_count_in_the_size_of_a_micro_batch(
    model, pairs, objective, monkeypatch
):
    sizes = []
    forward = model.model.forward

    def watch(ids, *more):
        sizes.append(ids.numel())
        return forward(ids, *more)

    monkeypatch.setattr(model.model, "forward", watch)
    add(model, pairs, objective, tokens=100)
    assert len(sizes) > 1
    assert max(sizes) <= 100


def test_the_fast_twin_never_has_the_logits_of_all_positions(
    model, pairs, five_logits_at_once, monkeypatch
):
    sizes = []
    logits = model.logits

    def watch(states):
        sizes.append(len(states))
        return logits(states)

    monkeypatch.setattr(model, "logits", watch)
    add(model, pairs, OBJECTIVES[1])
    assert max(sizes) == 5
