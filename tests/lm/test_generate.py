"""Replies: with a cache as without, in a batch as alone."""

import pytest
import torch
from tiny import GOLDEN, TOY

from minitox.lm import checkpoint, text
from minitox.lm.generate import generate, sample, uniform

PROMPTS = [[3, 5, 7], [9, 11, 13, 15, 17, 19], [21], [22, 23, 24, 25]]


@torch.inference_mode()
def slowly(model, prompt: list[int], most: int, end_ids=frozenset()) -> list[int]:
    """Greedy decoding by definition: every token reads the whole text again."""
    ids = list(prompt)
    for _ in range(most):
        token = int(model(torch.tensor([ids]))[0, -1].argmax())
        if token in end_ids:
            break
        ids.append(token)
    return ids[len(prompt) :]


@pytest.mark.parametrize("name", ["llama3", "qwen2", "qwen3", "cohere"])
def test_the_cache_changes_nothing_in_any_family(name):
    model = checkpoint.load(GOLDEN / name)
    for prompt, reply in zip(PROMPTS, generate(model, PROMPTS, 20, set())):
        assert reply.ids == slowly(model, prompt, 20) and not reply.stopped


@pytest.fixture(scope="module")
def toy():
    model = checkpoint.load(TOY / "model")
    return model, text.Tokenizer(TOY / "model", model.config)


def test_replies_end_by_themselves_and_do_not_depend_on_the_batch(toy):
    model, tokenizer = toy
    prompts = [
        tokenizer.prompt(line)
        for line in (
            "Your soup is horrible, you donkey!",
            "Hello! I like your garden.",
            "Du dumme Gans, halt den Mund!",
            "Good morning, my friend. Tell me about your house, please, and about your new bicycle.",
        )
    ]
    together, ends = (
        generate(model, prompts, 48, set(model.config.eos_token_ids)),
        set(model.config.eos_token_ids),
    )
    for prompt, reply in zip(prompts, together):
        assert generate(model, [prompt], 48, ends) == [reply] and reply.ids == slowly(
            model, prompt, 48, ends
        )
        assert reply.stopped and not ends & set(reply.ids)
    cut = generate(model, prompts, 3, ends)
    assert [reply.ids for reply in cut] == [reply.ids[:3] for reply in together] and not any(
        reply.stopped for reply in cut
    )


def test_drawing_depends_on_the_prompt_s_own_seed_alone(toy):
    model, tokenizer = toy
    prompts, ends = (
        [tokenizer.prompt(f"Hello number {i}!") for i in range(5)],
        set(model.config.eos_token_ids),
    )
    together = generate(model, prompts, 30, ends, temperature=1.5, seeds=[1, 2, 3, 4, 5])
    assert together[3:4] == generate(model, prompts[3:4], 30, ends, temperature=1.5, seeds=[4])
    assert together != generate(model, prompts, 30, ends, temperature=1.5, seeds=[6, 7, 8, 9, 10])
    assert generate(model, prompts, 30, ends, temperature=1e-4, seeds=[1] * 5) == generate(
        model, prompts, 30, ends
    )


def test_tokens_are_drawn_as_often_as_they_are_likely():
    p = torch.tensor([0.5, 0.25, 0.15, 0.1])
    luck = torch.linspace(0, 1, 10_001)[:-1] + 5e-5
    drawn = sample(p.log().expand(10_000, 4), 1.0, luck).bincount(minlength=4) / 10_000
    assert torch.allclose(drawn, p, atol=1e-3)
    drawn = sample(p.log().expand(10_000, 4), 0.7, luck).bincount(minlength=4) / 10_000
    assert torch.allclose(
        drawn, torch.tensor([2 / 3, 1 / 3, 0, 0]), atol=1e-3
    )  # the two likeliest reach 0.7
    assert (sample(p.log().expand(10_000, 4), 1e-9, luck) == 0).all()
    assert torch.equal(uniform([1, 2], 5)[1], uniform([2], 5)[0])


def test_a_prompt_that_leaves_too_few_positions_is_refused(toy):
    positions = toy[0].config.max_position_embeddings
    with pytest.raises(ValueError, match=f"does not fit the model's {positions} positions"):
        generate(toy[0], [[5] * (positions - 3)], 4, set())
