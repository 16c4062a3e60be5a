"""Render a model folder's chat template; a program of its own, run by minitox.lm.chat.

A template is code from whoever made the model. It runs in jinja2's sandbox, in a process with
little memory, which is killed if it takes too long. Reads a request as JSON from stdin and writes
the texts, or an error, as JSON to stdout.
"""

import json
import sys
from datetime import datetime

MOST_MEMORY = 2**29  # bytes of this process
MOST_CHARACTERS = 2**20  # of a text
TODAY = datetime(2024, 7, 26)  # Llama-3.1's default, whatever the day is
OLDEST = (3, 1, 6)  # version of jinja2: older sandboxes have known holes


def render(template: str, variables: list[dict]) -> dict:
    """The text that a template makes of each set of variables; {} without a usable jinja2."""
    try:
        import jinja2
        from jinja2.ext import Extension, loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        return {}
    numbers = jinja2.__version__.split(".")[:3]
    if tuple(int(number) for number in numbers if number.isdigit()) < OLDEST:
        return {}

    class Generation(Extension):
        """{% generation %} marks replies for training, and adds nothing to the text."""

        tags = {"generation"}

        def parse(self, parser):
            next(parser.stream)
            return parser.parse_statements(["name:endgeneration"], drop_needle=True)

    def raise_exception(message):
        raise jinja2.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(
            value,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )

    # the same environment as that of transformers' apply_chat_template
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = TODAY.strftime
    compiled = environment.from_string(template)
    texts = []
    for values in variables:
        parts = []
        length = 0
        for part in compiled.generate(**values):
            parts.append(part)
            length += len(part)
            if length > MOST_CHARACTERS:
                raise ValueError(f"the text is longer than {MOST_CHARACTERS:,} characters")
        texts.append("".join(parts))
    return {"texts": texts}


def limit_memory() -> None:
    """Limit the memory of this process, where the system can."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    except (ImportError, ValueError, OSError):
        pass


def main() -> None:
    limit_memory()
    request = json.loads(sys.stdin.buffer.read())
    try:
        answer = render(request["template"], request["variables"])
    except MemoryError:
        answer = {"error": f"it needs more than {MOST_MEMORY // 2**20} MiB of memory"}
    except Exception as error:  # whatever the template raises
        answer = {"error": f"{type(error).__name__}: {error}"}
    sys.stdout.buffer.write(json.dumps(answer).encode())


if __name__ == "__main__":
    main()
