"""What tuning starts from: the AUROCs that detect.py wrote, and the pairs to tune on."""

from pathlib import Path

from minitox.data import read_pairs
from minitox.errors import InputError, UnusableLanguage
from minitox.lm.config import Config
from minitox.lm.text import Tokenizer
from minitox.neurons import module_rows
from minitox.run.neuron_files import read_importance
from minitox.train.pairs import PairChoice, Pairs
from minitox.train.strategies import TUNED


def read_languages(
    languages: tuple[str, ...],
    order: tuple[str, ...] | None,
    strategies: tuple[str, ...],
    neuron_folder: Path,
    pair_folder: Path,
    tokenizer: Tokenizer,
    choice: PairChoice,
) -> tuple[dict[str, Path], dict[str, Pairs]]:
    """By language in `order`, the neuron file and the pairs, where the strategies can use them.

    Prints why other languages are skipped, and how many duplicates were dropped. InputError if no
    language is left.
    """
    needs_pairs = any(strategy in TUNED for strategy in strategies)
    needs_neurons = set(strategies) != {"full"}
    neuron_files = {}
    pairs = {}
    skipped = {}
    for language in languages:
        neuron_file = neuron_folder / f"{language}.safetensors"
        pair_file = pair_folder / f"{language}.jsonl"
        if needs_neurons and not neuron_file.exists():
            skipped[language] = (
                f"{neuron_file} does not exist, so no neuron counts as toxic in it, "
                "and its pairs are not used"
            )
            continue
        if needs_pairs and not pair_file.exists():
            skipped[language] = (
                f"{pair_file} does not exist, so its neurons are not tuned, "
                "unless another language has them too"
            )
            continue
        # Interventions need no pairs, but the loss on pairs is measured if there are some
        if pair_file.exists():
            try:
                pairs[language] = read_pairs(pair_file, tokenizer, choice)
            except UnusableLanguage as reason:
                if needs_pairs:
                    skipped[language] = str(reason)
                    continue
        if needs_neurons:
            neuron_files[language] = neuron_file
    if not neuron_files and not pairs:
        raise InputError(f"nothing to do: {'; '.join(skipped.values())}")
    for language, reason in skipped.items():
        print(f"skipped {language}: {reason}")
    for language, of_language in pairs.items():
        if of_language.duplicates:
            print(f"{language}: dropped {of_language.duplicates:,} duplicate pairs")
    return in_order(neuron_files, order), in_order(pairs, order)


def check_pairs(
    by: str,  # the selector
    neuron_files: dict[str, Path],
    pairs: dict[str, Pairs],
    choice: PairChoice,
    config: Config,
):
    """InputError if a selector other than AUROC saw other training pairs than this run's.

    They could be among this run's validation and test pairs.
    """
    if by == "auroc":
        return
    flags = {
        "data": "data",
        "pairs": "--pairs",
        "validation_share": "--validation-share",
        "max_pair_tokens": "--max-tokens",
        "seed": "--seed",
    }
    rows = module_rows(config)
    for language, path in neuron_files.items():
        _, about = read_importance(path, rows, by)
        ours = vars(choice) | {
            "data": pairs[language].data_hash,
            "max_pair_tokens": choice.max_tokens,
        }
        for name, flag in flags.items():
            if about.get(name) == ours[name]:
                continue
            what = f"{flag} was {about.get(name)!s:.20}, this run's is {ours[name]}"
            if name == "data":
                what = f"{language}.jsonl has changed since"
            raise InputError(
                f"{path} was not made from this run's training pairs, so it may have seen its test "
                f"pairs: {what}; use the same here, or run detect.py --select {by} with another "
                "--out"
            )


def in_order(by_language: dict, order: tuple[str, ...] | None) -> dict:
    """The languages in the order of --order; InputError if it leaves one out."""
    if order is None:
        return by_language
    if missing := by_language.keys() - set(order):
        raise InputError(f"--order leaves out {', '.join(sorted(missing))}")
    return {language: by_language[language] for language in order if language in by_language}
