"""Replies are the same with a cache as without, and in a batch as alone."""

import math

import pytest
import torch
from tiny import GOLDEN, TOY

from minitox.lm import checkpoint, text
from minitox.lm.generate import generate, sample, shared_length, uniform

PROMPTS = [[3, 5, 7], [9, 11, 13, 15, 17, 19], [21], [22, 23, 24, 25]]


@torch.inference_mode()
def without_cache(model, prompt: list[int], max_new_tokens: int, end_ids=frozenset()) -> list[int]:
    """Greedy decoding by definition: the whole text is read again for every token."""
    ids = list(prompt)
    for _ in range(max_new_tokens):
        logits = model(torch.tensor([ids]))
        token = int(logits[0, -1].argmax())
        if token in end_ids:
            break
        ids.append(token)
    return ids[len(prompt) :]


@pytest.mark.parametrize("name", ["llama3", "mistral", "qwen2", "qwen3", "cohere", "cohere2"])
def test_the_cache_changes_nothing_in_any_family(name):
    model = checkpoint.load(GOLDEN / name)
    replies = generate(model, PROMPTS, 20, set())
    for prompt, reply in zip(PROMPTS, replies, strict=True):
        assert reply.ids == without_cache(model, prompt, 20)
        assert not reply.stopped


def test_a_model_that_stores_no_activations_reads_the_cache_too():
    model = checkpoint.load(GOLDEN / "llama3")
    usual = generate(model, PROMPTS, 20, set())
    model.model.activation_checkpointing = True
    assert generate(model, PROMPTS, 20, set()) == usual


def test_the_result_of_attention_may_lie_in_memory_in_any_order(monkeypatch):
    # as CUDA's attention in float32 returns it: (B, T, heads, H) in memory
    model = checkpoint.load(GOLDEN / "llama3")
    usual = generate(model, PROMPTS, 5, set())
    attention = torch.nn.functional.scaled_dot_product_attention

    def heads_inside(*args, **options):
        return attention(*args, **options).transpose(1, 2).contiguous().transpose(1, 2)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", heads_inside)
    assert generate(model, PROMPTS, 5, set()) == usual


@pytest.fixture(scope="module")
def toy():
    model = checkpoint.load(TOY / "model")
    return model, text.Tokenizer(TOY / "model", model.config)


def test_replies_end_by_themselves_and_do_not_depend_on_the_batch(toy):
    model, tokenizer = toy
    ends = set(model.config.eos_token_ids)
    texts = [
        "Your soup is horrible, you donkey!",
        "Hello! I like your garden.",
        "Du dumme Gans, halt den Mund!",
        "Good morning, my friend. Tell me about your house, please, and about your new bicycle.",
    ]
    prompts = [tokenizer.prompt(line) for line in texts]
    together = generate(model, prompts, 48, ends)
    for prompt, reply in zip(prompts, together, strict=True):
        assert generate(model, [prompt], 48, ends) == [reply]
        assert reply.ids == without_cache(model, prompt, 48, ends)
        assert reply.stopped
        assert not ends & set(reply.ids)
    # a limit cuts the same replies
    cut = generate(model, prompts, 3, ends)
    assert [reply.ids for reply in cut] == [reply.ids[:3] for reply in together]
    assert not any(reply.stopped for reply in cut)


def test_sampling_depends_only_on_the_seed_of_the_prompt(toy):
    model, tokenizer = toy
    ends = set(model.config.eos_token_ids)
    prompts = [tokenizer.prompt(f"Hello number {i}!") for i in range(5)]
    together = generate(model, prompts, 30, ends, temperature=1.5, seeds=[1, 2, 3, 4, 5])
    alone = generate(model, prompts[3:4], 30, ends, temperature=1.5, seeds=[4])
    assert together[3:4] == alone
    other_seeds = generate(model, prompts, 30, ends, temperature=1.5, seeds=[6, 7, 8, 9, 10])
    assert together != other_seeds
    cold = generate(model, prompts, 30, ends, temperature=1e-4, seeds=[1] * 5)
    assert cold == generate(model, prompts, 30, ends)


def test_tokens_are_sampled_as_often_as_they_are_likely():
    p = torch.tensor([0.5, 0.25, 0.15, 0.1])
    logits = p.log().expand(10_000, 4)
    u = torch.linspace(0, 1, 10_001)[:-1] + 5e-5

    frequency = sample(logits, 1.0, u).bincount(minlength=4) / 10_000
    assert torch.allclose(frequency, p, atol=1e-3)

    # the two likeliest tokens have a total of at least 0.7
    nucleus = torch.tensor([2 / 3, 1 / 3, 0, 0])
    frequency = sample(logits, 0.7, u).bincount(minlength=4) / 10_000
    assert torch.allclose(frequency, nucleus, atol=1e-3)

    # the likeliest token always remains
    assert (sample(logits, 1e-9, u) == 0).all()


def test_random_numbers_depend_only_on_their_own_seed():
    assert torch.equal(uniform([1, 2], 5)[1], uniform([2], 5)[0])


def test_what_all_prompts_share_leaves_a_token_of_each():
    assert shared_length([[1, 2, 3], [1, 2, 4, 5]]) == 2
    assert shared_length([[1, 2], [1, 2, 3]]) == 1
    assert shared_length([[1, 2, 3]]) == 2
    assert shared_length([[1], [2]]) == 0


def test_a_prompt_that_leaves_too_few_positions_is_refused(toy):
    model, _ = toy
    positions = model.config.max_position_embeddings
    with pytest.raises(ValueError, match=f"does not fit the model's {positions} positions"):
        generate(model, [[5] * (positions - 3)], 4, set())


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [math.nan, math.inf, 3e38])
def test_logits_that_are_not_finite_are_no_token(value, temperature):
    model = checkpoint.load(GOLDEN / "llama3")
    model.model.norm.weight.fill_(value)
    with pytest.raises(ValueError, match="logits of token 1 of a reply are not finite; check the"):
        generate(model, PROMPTS, 4, set(), temperature=temperature, seeds=[1] * 4)


def test_logits_of_one_prompt_in_a_later_step_are_enough():
    model = checkpoint.load(GOLDEN / "llama3")
    steps = iter(range(9))

    def spoil(module, inputs, hidden):
        if next(steps) == 3:
            hidden[0, 0, 0] = -math.inf
        return hidden

    model.model.register_forward_hook(spoil)
    with pytest.raises(ValueError, match="logits of token 4 of a reply"):
        generate(model, PROMPTS, 6, set())


def test_a_temperature_that_leaves_no_finite_logits_is_no_choice():
    model = checkpoint.load(GOLDEN / "llama3")
    with pytest.raises(ValueError, match="not finite; check the weights, --dtype and --temp"):
        generate(model, PROMPTS, 4, set(), temperature=1e-45, seeds=[1] * 4)
