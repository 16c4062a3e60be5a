"""The tokenizer of a run, with its chat format checked against the model's own template."""

from pathlib import Path

from minitox.errors import InputError
from minitox.files import write_text
from minitox.lm.chat import TemplateError
from minitox.lm.config import Config
from minitox.lm.text import Tokenizer
from minitox.run import distributed


def open_tokenizer(
    folder: Path,
    config: Config,
    out: Path | None = None,  # where a difference is written to
    unchecked: bool = False,  # --unchecked-template
    name: str = "base",  # of the model
) -> Tokenizer:
    """The tokenizer of a model, its chat format checked against the folder's template.

    InputError if they differ; the two texts are then in a file of `out`.
    """
    tokenizer = Tokenizer(folder, config)
    if unchecked:
        return tokenizer
    try:
        tokenizer.check_template()
    except TemplateError as error:
        where = ""
        if error.report and out is not None:
            file = out / f"chat_template.{name}.txt"
            distributed.once(write_text, file, f"{folder}: {error}\n\n{error.report}")
            where = f"; see {file}"
        raise InputError(
            f"{folder}: {error}{where}; --unchecked-template uses minitox's own format"
        ) from None
    return tokenizer
