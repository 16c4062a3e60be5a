"""What a run starts from: for each language, the AUROC that detect.py found and the pairs to tune on."""

from minitox import neurons
from minitox.data import language_rng, read_pairs
from minitox.errors import InputError, UnusableLanguage
from minitox.lm.text import Tokenizer
from minitox.train import strategies
from minitox.train.pairs import Pairs

CHOICE, FOLDING = ("threshold", "top_share"), ("language", "damp")
TUNING = (
    "pairs",
    "unseen",
    "max_tokens",
    "epochs",
    "lr",
    "schedule",
    "warmup",
    "batch_size",
    "batch_tokens",
    "weight_decay",
    "clip",
    "optimizer",
    "recompute",
    "seed",
)


def read_languages(
    args, tokenizer: Tokenizer, rows: dict[str, int], fingerprint: str
) -> tuple[dict[str, dict], dict[str, Pairs], dict[str, str]]:
    """AUROC and pairs of every language that has what the strategies need, and why the others are skipped.

    InputError if none is left, or a file is broken or of another model than the one of this fingerprint.
    """
    tuned, known = set(args.strategy) & set(strategies.TUNED), set(args.strategy) != {"full"}
    aurocs, pairs, skipped = {}, {}, {}
    for language in args.languages:
        neuron_file, pair_file = (
            args.neurons / f"{language}.safetensors",
            args.data / "instructions" / f"{language}.jsonl",
        )
        if known and not neuron_file.exists():
            skipped[language] = (
                f"{neuron_file} does not exist, so no neuron counts as toxic in it, and its pairs are not used"
            )
        elif tuned and not pair_file.exists():
            skipped[language] = (
                f"{pair_file} does not exist, so its neurons are not tuned, unless another language has them too"
            )
        else:
            try:
                if pair_file.exists():  # interventions need none, but are measured on them
                    pairs[language] = read_pairs(
                        pair_file,
                        tokenizer,
                        most=args.pairs,
                        max_tokens=args.max_tokens,
                        validation_share=args.unseen,
                        rng=language_rng(args.seed, language),
                    )
            except UnusableLanguage as reason:
                if tuned:
                    skipped[language] = str(reason)
                    continue
            if known:
                aurocs[language] = neurons.load(neuron_file, rows, fingerprint)[0]
    if not aurocs and not pairs:
        raise InputError(f"nothing to do: {'; '.join(skipped.values())}")
    if aurocs and args.language and args.language not in aurocs:
        raise InputError(
            f"--language {args.language} is not one of {', '.join(aurocs)}, which have what is needed"
        )
    return in_order(args, aurocs), in_order(args, pairs), skipped


def in_order(args, found: dict) -> dict:
    """The languages as --order asks for them."""
    if args.order and (missing := set(found) - set(args.order)):
        raise InputError(f"--order leaves out {', '.join(sorted(missing))}")
    return {language: found[language] for language in args.order or found if language in found}


def settings_of(
    args, plan: strategies.Plan, neuron_hashes: dict[str, str], pairs: dict[str, Pairs]
) -> dict:
    """All that a plan makes of a base model depends on, and nothing else; a folder made with other settings is not taken for it."""
    tuned, chosen = plan.scale is None, any(mask is not None for mask in plan.masks)
    keys = (CHOICE if chosen else ()) + (TUNING if tuned else FOLDING)
    return {
        "strategy": plan.name,
        "languages": list(neuron_hashes or pairs),
        "data": {language: found.data_hash for language, found in pairs.items()} if tuned else {},
        "neurons": neuron_hashes if chosen else {},
        **{key: getattr(args, key) for key in keys},
    }
