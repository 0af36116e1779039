"""Speed of generating beside `transformers` and llama.cpp: one prompt, many at once, and a server.

The same models for all: a Llama of 30M random weights, and a real one where --real-model names its
folder; llama.cpp reads what `foundling export` writes. Each prompt has 64 tokens, and as many new
ones for all are generated greedily on two threads, round by round, each variant in a process of its
own; compared are medians. Tokens/s count the new tokens over the whole time, reading the prompt
included; the time to the first token is that of a request for one.

llama.cpp is measured through its C interface (llama-cpp-python's own loop is slower), for many
prompts as sequences of one batch. Servers answer 1, 8 and 32 clients at once over HTTP, each of
which waits for its answer before it asks again: see `serve_load.py`.

    python benchmarks/generate.py [--peer-python PATH] [--real-model DIR] [--quick] [--json]
        [--only WORD ...]

With --only, the variants whose names have one of these words, such as `x1`, `q8_0` or `server`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from pretrain import machine
from serve_load import SERVERS, prompts_of, serve_and_load
from side_by_side import peak_gib

PROMPT_TOKENS = 64
LLAMA = {"dim": 512, "num_layers": 8, "num_heads": 8, "num_kv_heads": 4, "mlp_dim": 1536,
         "norm_eps": 1e-5, "qk_norm": False}  # fmt: skip
VOCAB, CONTEXT = 8192, 1024


class Variant(NamedTuple):
    """What generates, in which weights, how many prompts at once."""

    who: str
    weights: str
    batch: int

    def __str__(self) -> str:
        return f"{self.who} {self.weights} x{self.batch}"


VARIANTS = [
    Variant("ours", "f32", 1),
    Variant("transformers", "f32", 1),
    Variant("llama.cpp", "f32", 1),
    Variant("ours", "bf16", 1),
    Variant("transformers", "bf16", 1),
    Variant("llama.cpp", "bf16", 1),
    Variant("ours", "int8", 1),
    Variant("llama.cpp", "q8_0", 1),
    Variant("ours", "int4", 1),
    Variant("llama.cpp", "q4_0", 1),
    Variant("ours", "f32", 16),
    Variant("transformers", "f32", 16),
    Variant("llama.cpp", "f32", 16),
    Variant("ours", "bf16", 16),
    Variant("transformers", "bf16", 16),
    Variant("llama.cpp", "bf16", 16),
]
EQUALS = {"int8": "q8_0", "int4": "q4_0"}
"""What llama.cpp calls weights of as many bits."""
TYPES = ("f32", "bf16", "q8_0", "q4_0")


class Timed(NamedTuple):
    """Seconds to the first token, and for all of them; the first prompt's tokens."""

    first: float
    whole: float
    tokens: list[int]


# ---------------------------------------------------------------------- the models


def random_llama(folder: Path) -> None:
    """Write a Llama of 30M random weights, with a tokenizer learned from made-up words."""
    import random

    import torch

    from foundling import models
    from foundling.models import interchange
    from foundling.text.tokenizer import Tokenizer

    draw = random.Random(1)
    syllables = [a + b for a in "bcdfghjklmnprstvwz" for b in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(20_000)]
    lines = [" ".join(draw.choices(words, k=20)) for _ in range(10_000)]
    tokenizer = Tokenizer.train_bytes(lines, VOCAB)
    torch.manual_seed(1)
    model = models.build({**LLAMA, "family": "llama"}, vocab_size=VOCAB, context=CONTEXT)
    interchange.save(model, folder, tokenizer.mark_ids())
    tokenizer.save(folder)


def export(model: Path, folder: Path) -> None:
    """Write the model's GGUF files, the folder itself beside them, and prompts as text."""
    from foundling.runs.gguf import export_gguf
    from foundling.text.tokenizer import Tokenizer

    (folder / "model").symlink_to(model.resolve())
    for kind in TYPES:
        export_gguf(model, folder / f"{kind}.gguf", kind, name="model")
    texts = prompts_of(Tokenizer.load(model), PROMPT_TOKENS)
    (folder / "prompts.json").write_text(json.dumps(texts), "utf-8")


def prompts(batch: int, number: int) -> list[list[int]]:
    """Random tokens; no two prompts have a common beginning that a cache could keep."""
    import random

    draw = random.Random(1000 * batch + number)
    return [[draw.randrange(300, VOCAB) for _ in range(PROMPT_TOKENS)] for _ in range(batch)]


# ---------------------------------------------------------------------- who generates


def ours(folder: Path, variant: Variant, count: int) -> Any:
    import torch

    from foundling.generation.engine import Engine, EngineSettings
    from foundling.generation.loading import load_packed
    from foundling.generation.request import Request
    from foundling.generation.sampling import Sampling

    settings = EngineSettings.parse(
        {
            "max_batch": variant.batch,
            "precision": "bf16" if variant.weights == "bf16" else "fp32",
            "quantize": variant.weights if variant.weights.startswith("int") else "none",
        }
    )
    loaded = load_packed(folder / "model", torch.device("cpu"), settings)
    engine = Engine(*loaded, settings)
    greedy = Sampling(temperature=0)

    def generate(given: list[list[int]], new: int) -> list[list[int]]:
        asked = [
            Request(tuple(ids), max_tokens=new, sampling=greedy, ignore_end=True) for ids in given
        ]
        return [list(result.tokens) for result in engine.run(asked)]

    return generate


def transformers(folder: Path, variant: Variant, count: int) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[variant.weights]
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=dtype).eval()

    def generate(given: list[list[int]], new: int) -> list[list[int]]:
        ids = torch.tensor(given)
        made = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            min_new_tokens=new,
            do_sample=False,
            pad_token_id=0,
        )
        return made[:, ids.shape[1] :].tolist()

    return generate


def llama_cpp(folder: Path, variant: Variant, count: int) -> Any:
    """llama.cpp itself: one sequence a prompt, all of them in each decoded batch."""
    import llama_cpp as c

    threads = int(os.environ["OMP_NUM_THREADS"])
    file = folder / f"{variant.weights}.gguf"
    model = c.llama_model_load_from_file(str(file).encode(), c.llama_model_default_params())
    parameters = c.llama_context_default_params()
    parameters.n_ctx = variant.batch * (PROMPT_TOKENS + count + 8)
    parameters.n_seq_max = variant.batch
    parameters.n_batch = parameters.n_ubatch = max(512, variant.batch * PROMPT_TOKENS)
    parameters.n_threads = parameters.n_threads_batch = threads
    parameters.kv_unified = True
    context = c.llama_init_from_model(model, parameters)
    batch = c.llama_batch_init(variant.batch * PROMPT_TOKENS, 0, variant.batch)
    greedy = c.llama_sampler_init_greedy()

    def decode(tokens: list[tuple[int, int, int, bool]]) -> list[int]:
        batch.n_tokens = len(tokens)
        for i, (token, position, sequence, wanted) in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if c.llama_decode(context, batch):
            raise RuntimeError("llama_decode failed")
        wanted = [i for i, token in enumerate(tokens) if token[3]]
        return [c.llama_sampler_sample(greedy, context, i) for i in wanted]

    def generate(given: list[list[int]], new: int) -> list[list[int]]:
        c.llama_memory_clear(c.llama_get_memory(context), True)
        last = PROMPT_TOKENS - 1
        drawn = decode(
            [(t, p, s, p == last) for s, ids in enumerate(given) for p, t in enumerate(ids)]
        )
        made = [[token] for token in drawn]
        for position in range(PROMPT_TOKENS, PROMPT_TOKENS + new - 1):
            drawn = decode([(token, position, s, True) for s, token in enumerate(drawn)])
            for tokens, token in zip(made, drawn, strict=True):
                tokens.append(token)
        return made

    return generate


WHO = {"ours": ours, "transformers": transformers, "llama.cpp": llama_cpp}


def time_variant(folder: Path, variant: Variant, count: int, repeats: int) -> list[Timed]:
    """After one generation to warm up, `repeats` of them."""
    generate = WHO[variant.who](folder, variant, count)
    generate(prompts(variant.batch, 0), min(count, 16))
    timed = []
    for number in range(1, repeats + 1):
        begin = time.perf_counter()
        generate(prompts(variant.batch, 100 + number), 1)
        first = time.perf_counter() - begin
        given = prompts(variant.batch, number)
        begin = time.perf_counter()
        made = generate(given, count)
        whole = time.perf_counter() - begin
        assert [len(tokens) for tokens in made] == [count] * variant.batch
        timed.append(Timed(first, whole, made[0]))
    return timed


# ---------------------------------------------------------------------- side by side


def run_variant(
    folder: Path, variant: Variant, arguments: argparse.Namespace
) -> tuple[list[Timed], float] | None:
    """What a process of its own measured, and its peak memory in GiB; None: it failed."""
    python = sys.executable if variant.who == "ours" else arguments.peer_python
    command = [python, __file__, "--folder", str(folder), "--variant", *map(str, variant)]
    command += ["--tokens", str(arguments.tokens), "--repeats", str(arguments.repeats)]
    done = subprocess.run(command, env=environment(arguments), capture_output=True, text=True)
    if done.returncode:
        print(f"{variant} failed:\n{done.stderr[-1500:]}", file=sys.stderr)
        return None
    said = json.loads(done.stdout.splitlines()[-1])
    return [Timed(*each) for each in said["timed"]], said["peak_gib"]


def environment(arguments: argparse.Namespace) -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(arguments.threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every variant in turn, round by round, and what that says."""
    found: dict[Variant, list[Timed]] = {}
    peaks: dict[str, float] = {}
    chosen = [v for v in VARIANTS if asked_for(str(v), arguments.only)]
    for number in range(arguments.rounds):
        for variant in chosen:
            measured = run_variant(folder, variant, arguments)
            if measured is None:
                continue
            timed, peak = measured
            found.setdefault(variant, []).extend(timed)
            peaks[str(variant)] = round(peak, 2)
            if not arguments.json:
                rate = rate_of(variant, timed, arguments.tokens)
                print(f"{number} {variant}: {rate:.1f} tokens/s, {peak:.2f} GiB", file=sys.stderr)
    rates = {v: rate_of(v, timed, arguments.tokens) for v, timed in found.items()}
    return {
        "tokens_per_s": {str(v): round(rate, 1) for v, rate in rates.items()},
        "first_token_ms": {
            str(v): round(1000 * median(t.first for t in timed), 1) for v, timed in found.items()
        },
        "peak_gib": peaks,
        "ratio": ratios(rates),
        "equal_tokens": equal_tokens(found),
    }


def asked_for(name: str, words: list[str]) -> bool:
    return not words or any(word in name.split() for word in words)


def rate_of(variant: Variant, timed: list[Timed], count: int) -> float:
    return variant.batch * count / median(t.whole for t in timed)


def ratios(rates: dict[Variant, float]) -> dict[str, float]:
    """Ours over each peer's at the same bits and batch."""
    found = {}
    for mine, rate in rates.items():
        for peer, weights in (("transformers", mine.weights),
                              ("llama.cpp", EQUALS.get(mine.weights, mine.weights))):  # fmt: skip
            other = rates.get(Variant(peer, weights, mine.batch))
            if mine.who == "ours" and other:
                found[f"{mine} / {peer} {weights}"] = round(rate / other, 2)
    return found


def equal_tokens(found: dict[Variant, list[Timed]]) -> dict[str, str]:
    """How many of ours in fp32 are a peer's, from the beginning of the first text."""
    said = {}
    for variant, timed in found.items():
        mine = found.get(Variant("ours", "f32", variant.batch))
        if variant.who != "ours" and variant.weights == "f32" and mine:
            pairs = list(zip(mine[0].tokens, timed[0].tokens, strict=True))
            equal = next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))
            said[str(variant)] = f"{equal}/{len(pairs)}"
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", default=sys.executable, help="has the peers installed")
    parser.add_argument("--real-model", type=Path, help="a folder with real weights")
    parser.add_argument("--quick", action="store_true", help="few tokens, one round")
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD")
    parser.add_argument("--tokens", type=int, default=128, help="new ones of each prompt")
    parser.add_argument("--repeats", type=int, default=2, help="timed in each process")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--variant", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        who, weights, batch = arguments.variant
        variant = Variant(who, weights, int(batch))
        timed = time_variant(arguments.folder, variant, arguments.tokens, arguments.repeats)
        print(json.dumps({"timed": timed, "peak_gib": peak_gib()}))
        return
    if arguments.quick:
        arguments.tokens, arguments.repeats, arguments.rounds = 16, 1, 1
    result: dict[str, Any] = {"name": "generate", "unit": "tokens/s"}
    with tempfile.TemporaryDirectory() as name:
        random_llama(Path(name) / "random")
        sources = {"random 30M": Path(name) / "random"}
        if arguments.real_model is not None:
            sources[arguments.real_model.name] = arguments.real_model
        for title, source in sources.items():
            folder = Path(name) / title.replace(" ", "-")
            folder.mkdir()
            export(source, folder)
            if not arguments.json:
                print(f"{title}:", file=sys.stderr)
            result[title] = measure(folder, arguments)
            chosen = [each for each in SERVERS if asked_for(each.name, arguments.only)]
            if chosen:
                result[title]["servers"] = serve_and_load(
                    folder, chosen, arguments, environment(arguments)
                )
    print(json.dumps({**result, "machine": machine()}))


if __name__ == "__main__":
    main()
