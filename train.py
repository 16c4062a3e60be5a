"""Stage 2: tune only the toxic neurons on polite replies, and prove that nothing else moved.  [paper §3.3]

    python train.py                                         # the toy, after detect.py
    python train.py --model DIR --data DIR --out DIR        # your own

Reads OUT/neurons, which detect.py wrote, and DATA/instructions. Every strategy becomes a model folder OUT/models/<strategy>
that transformers opens too. Killed at any moment, the same command goes on where it was.
"""

import shutil
import time
from functools import partial
from pathlib import Path

import torch

from minitox import delta, neurons
from minitox.errors import InputError
from minitox.files import claim_run, file_hash, hold, versions, write_json
from minitox.lm import checkpoint
from minitox.lm.config import read_config
from minitox.lm.text import Tokenizer
from minitox.report import page, training_tables
from minitox.run import cli, distributed
from minitox.run.training_inputs import read_languages, settings_of
from minitox.train import finetune, frozen, interventions, strategies


def parse_arguments(argv):
    parser = cli.common_arguments(
        "Tune only the toxic neurons on polite replies, and prove that nothing else moved."
    )
    add = parser.add_argument
    add(
        "--strategy",
        nargs="+",
        choices=strategies.TUNED + strategies.FOLDED,
        default=strategies.DEFAULT,
        metavar="S",
        help=f"any of {', '.join(strategies.TUNED + strategies.FOLDED)}; default: {', '.join(strategies.DEFAULT)}",
    )
    add("--neurons", type=Path, help="folder that detect.py wrote; default: OUT/neurons")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        metavar="F",
        help="a neuron of larger AUROC is toxic",
    )
    chosen.add_argument(
        "--top-share",
        type=cli.share,
        metavar="F",
        help="instead: this share of all, those of highest AUROC",
    )
    add(
        "--order",
        type=cli.language_list,
        help="of languages in per-language and specific; default: as in --languages",
    )
    add(
        "--independent",
        action="store_true",
        help="per-language: one model for each language instead of one for all",
    )
    add(
        "--language",
        help="whose AUROC aura, damp and det0 scale by; default: the mean over all languages",
    )
    add("--damp", type=cli.share, default=0.5, metavar="F", help="factor of toxic neurons in damp")
    add(
        "--pairs",
        type=cli.positive(int),
        default=1_000,
        metavar="N",
        help="to tune on, at most, of each language",
    )
    # DEVIATION: some pairs are kept aside, so that the loss on unseen prompts can be told; the paper trains on all 1,000
    add(
        "--unseen",
        type=cli.share,
        default=0.05,
        metavar="F",
        help="share of the pairs kept aside to measure the loss on",
    )
    add(
        "--max-tokens",
        type=cli.positive(int),
        default=512,
        metavar="N",
        help="longer pairs are dropped, and counted",
    )
    # DEVIATION: the paper gives no learning rate, schedule, batch size, epochs or weight decay; these are ours
    add(
        "--epochs",
        type=cli.positive(int),
        default=1,
        metavar="N",
        help="times that every pair is seen",
    )
    add(
        "--lr",
        type=cli.auto_or(cli.positive(float)),
        default="auto",
        metavar="F",
        help="learning rate of AdamW after warm-up; auto: 0.128 / hidden_size, the wider the model the smaller",
    )
    add(
        "--schedule",
        choices=["cosine", "constant"],
        default="cosine",
        help="of the learning rate after warm-up",
    )
    add(
        "--warmup",
        type=cli.share,
        default=0.1,
        metavar="F",
        help="share of the steps in which the learning rate rises",
    )
    add("--batch-size", type=cli.positive(int), default=8, metavar="N", help="pairs in a step")
    add(
        "--batch-tokens",
        type=cli.auto_or(cli.positive(int)),
        default="auto",
        metavar="N",
        help="padded tokens that go through the model at once; a step is made of as many pieces as it takes; "
        "auto: 512 on a CPU, 16,384 elsewhere",
    )
    add(
        "--weight-decay",
        type=float,
        default=0.01,
        metavar="F",
        help="pulls the chosen rows, and no others, towards zero",
    )
    add(
        "--clip",
        type=cli.positive(float),
        default=1.0,
        metavar="F",
        help="longest gradient, over the chosen rows",
    )
    add(
        "--optimizer",
        choices=["rows", "masked"],
        default="rows",
        help="masked: the method as one reads it; rows: needs less",
    )
    add(
        "--recompute",
        action="store_true",
        help="keep no activations inside layers: less memory, more time",
    )
    add(
        "--checkpoint-steps",
        type=cli.positive(int),
        default=50,
        metavar="N",
        help="steps between checkpoints",
    )
    add(
        "--delta",
        action="store_true",
        help="also write OUT/models/<strategy>.delta.safetensors, the changed rows alone",
    )
    args = parser.parse_args(argv)
    args.strategy = list(dict.fromkeys(args.strategy))
    args.neurons = args.neurons or args.out / "neurons"
    return args


def make(
    args, plan: strategies.Plan, pairs: dict, before: dict, settings: dict, model, show
) -> None:
    """Make one plan's model of the base, or go on where it was left; `show(losses)` is called after every step."""
    final, work = args.out / "models" / plan.name, args.out / "models" / f"{plan.name}.partial"
    claim_run(work, settings)
    if plan.scale is None:
        losses = finetune.tune(
            model, plan.stages, pairs, args, work / "checkpoint.safetensors", show
        )
    else:
        interventions.fold(model, plan.scale)
        losses = []
    rows = strategies.weight_rows(model, strategies.union(plan.masks))
    after = finetune.mean_losses(model, pairs, args)
    unseen = {
        language: {
            "pairs": len(pairs[language].unseen),
            "before": before[language],
            "after": after[language],
        }
        for language in pairs
    }
    checkpoint.save(model, work / "model", source=args.model)
    if not distributed.FIRST:
        return
    write_json(
        work / "model" / "run.json",
        {
            "settings": settings,
            "versions": versions(),
            "proof": frozen.prove(args.model, work / "model", rows),
            "unseen": unseen,
            "stages": [
                {"name": stage.name, "losses": values} for stage, values in zip(plan.stages, losses)
            ],
        },
    )
    (work / "model").rename(final)
    shutil.rmtree(work)


def main(argv=None) -> None:
    args = parse_arguments(argv)
    config = read_config(args.model)
    device, dtype = cli.prepare_device(args, config, tokens=(512, 16_384))
    if dtype == torch.float16:
        raise InputError("gradients vanish in float16; use --dtype bfloat16 or float32")
    args.max_tokens = min(args.max_tokens, config.longest)
    if args.lr == "auto":
        args.lr = 0.128 / config.hidden_size
    tokenizer, fingerprint, models = (
        Tokenizer(args.model, config),
        checkpoint.fingerprint(args.model),
        args.out / "models",
    )
    aurocs, pairs, skipped = read_languages(
        args, tokenizer, neurons.module_rows(config), fingerprint
    )
    for language, reason in skipped.items():
        print(f"skipped {language}: {reason}")
    masks = {language: strategies.select(args, auroc) for language, auroc in aurocs.items()}
    plans = strategies.plans(args, aurocs, masks, list(aurocs or pairs))
    identity = {"model": fingerprint, "device": device.type, "dtype": str(dtype)}
    hashes = {language: file_hash(args.neurons / f"{language}.safetensors") for language in aurocs}
    settings = {plan.name: {**identity, **settings_of(args, plan, hashes, pairs)} for plan in plans}
    hold(args.out)
    todo = distributed.broadcast([plan.name for plan in plans if not (models / plan.name).exists()])
    todo = [plan for plan in plans if plan.name in todo]
    for plan in plans:
        if plan not in todo:
            claim_run(
                models / plan.name, settings[plan.name]
            )  # made by an earlier run: is it what this one would make?
            if distributed.FIRST:
                shutil.rmtree(models / f"{plan.name}.partial", ignore_errors=True)
    # what will be tuned, said before anything is
    print(
        f"{args.model}: {config.model_type}, {config.num_hidden_layers} layers; {device.type} {str(dtype).removeprefix('torch.')}"
    )
    print("", page.terminal(training_tables.pairs_table(pairs)), "", sep="\n")
    stages = {
        plan.name: [strategies.describe(stage, config, dtype, pairs, args) for stage in plan.stages]
        for plan in plans
    }
    toxic = neurons.union(list(masks.values())) if masks else None
    table = training_tables.plan_table(plans, stages, toxic, config)
    print(page.terminal(table), "", sep="\n", flush=True)
    steps = {plan.name: sum(stage["steps"] for stage in stages[plan.name]) for plan in plans}
    progress, earlier = cli.Progress(sum(steps[plan.name] for plan in todo)), 0
    base = partial(checkpoint.load, args.model, device, dtype, spread=True)
    before = finetune.mean_losses(base(), pairs, args) if todo else {}
    for plan in todo:
        start = time.monotonic()

        def show(losses):
            done = sum(map(len, losses))
            progress.show(f"{plan.name}: loss {losses[-1][-1]:.3f}", earlier + done)
            if done % args.checkpoint_steps == 0:
                progress.clear()
                print(
                    f"{plan.name}: step {done:,} of {steps[plan.name]:,}, loss {losses[-1][-1]:.3f}",
                    flush=True,
                )

        make(args, plan, pairs, before, settings[plan.name], base(), show)
        earlier += steps[plan.name]
        progress.clear()
        print(
            f"{plan.name}: {steps[plan.name]:,} steps in {cli.duration(time.monotonic() - start)}",
            flush=True,
        )
    # what became of it
    if not distributed.FIRST:
        return
    if args.delta:
        for plan in plans:
            path = models / f"{plan.name}.delta.safetensors"
            print(
                f"{path}: {training_tables.memory(delta.write(args.model, models / plan.name, path))}"
            )
    results = {
        plan.name: training_tables.read_result(models / plan.name / "run.json") for plan in plans
    }
    print("", page.terminal(training_tables.result_table(results)), "", sep="\n")
    print(f"wrote {models} ({len(plans)} models)")


if __name__ == "__main__":
    cli.run(main)
