"""The verb that shows which words attend to which."""

from pathlib import Path
from typing import Annotated

import typer

from foundling.cli.app import Json, app, read_stdin, report_json, say


@app.command()
def attention(
    run: Annotated[
        str, typer.Argument(help="A run, a checkpoint, a model folder, or hub:owner/name.")
    ],
    text: Annotated[str, typer.Option(help="The text to read; - reads standard input.")],
    compare: Annotated[
        str | None,
        typer.Option(
            help='A second text, or its end: "... too wide" is the first up to its last "too".'
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The page to write.", metavar="FILE")] = Path(
        "attention.html"
    ),
    suffix: Annotated[
        str,
        typer.Option(
            help="Words behind both texts, which have read all of them, such as "
            '"The word it refers to the".'
        ),
    ] = "",
    antecedents: Annotated[
        str | None,
        typer.Option(
            help='Two names in the text, as "the dog,the lane": what speaks for either as the '
            "next word, with --chat as the answer.",
            metavar="NAME,NAME",
        ),
    ] = None,
    winograd: Annotated[
        Path | None,
        typer.Option(
            help="Rank heads on these JSON lines of text, decides, right, wrong, group; "
            "default: sentences of the embedded village.",
            metavar="FILE",
        ),
    ] = None,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Show tokens in place of words.")
    ] = False,
    chat: Annotated[
        bool,
        typer.Option(
            "--chat", help="Read the text as a user's message, in the model's chat template."
        ),
    ] = False,
    template: Annotated[
        str | None,
        typer.Option(
            help="With --chat, the chat template: chatml, one of the model's by name, or a file; "
            "default: its own.",
            metavar="NAME|FILE",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    as_json: Json = False,
) -> None:
    """Write a page that shows which words attend to which."""
    from foundling.base.config import ConfigError

    named = None
    if antecedents is not None:
        names = [name.strip() for name in antecedents.split(",")]
        if len(names) != 2 or not all(names):
            raise ConfigError(
                f'--antecedents "{antecedents}": must be two names of the text with a comma '
                'between, as "the dog,the lane".'
            )
        named = (names[0], names[1])
    if template is not None and not chat:
        raise ConfigError(f'--template "{template}": is of no use without --chat.')
    if text == compare == "-":
        raise ConfigError("--text and --compare cannot both be standard input.")
    text = read_stdin().strip() if text == "-" else text
    compare = read_stdin().strip() if compare == "-" else compare
    from foundling.base.runtime import pick_device
    from foundling.interpret.coreferences import read_coreferences
    from foundling.interpret.page import attention_page
    from foundling.runs.run import load_model

    examples = None if winograd is None else read_coreferences(winograd)
    model, tokenizer = load_model(run)
    page = attention_page(
        model.to(pick_device(device)),
        tokenizer.with_known_template(template),
        text,
        compare=compare,
        suffix=suffix,
        antecedents=named,
        examples=examples,
        by_token=tokens,
        chat=chat,
        name=Path(run).name,
    )
    page.save(out)
    facts = page.facts
    say(f"The weights give the model's own outputs to {facts['recomputation_error']:.0e}.")
    for ranking in facts["rankings"]:
        best = ranking["best"]
        say(
            f"Antecedents, {ranking['looked']}: layer {best['layer']}, head {best['head']} scores "
            f"{best['score']:+.3f} (p = {best['p_value']:.4f}; the best by chance "
            f"{ranking['chance']:.3f}, a random head {ranking['mean']:+.3f})."
        )
    print(out)
    report_json({"page": str(out), "bytes": out.stat().st_size, **facts}, as_json)
