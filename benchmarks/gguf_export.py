"""What llama.cpp makes of exported models: the same tokens, logits and greedy text as ours.

Each model is exported to GGUF. Ours reads the file back, so that both compute with the same
rounded weights; llama.cpp, by `llama-cpp-python` in an interpreter of its own, reads the file with
keys and values in fp32. Compared are the tokens of texts, the logits of a prompt, the greedy text,
and the answer in a chat with where it ends. Where two greedy texts part, `margin` is by how many
nats ours preferred its token to the next. Without a model, small ones with random weights of every
architecture are taken.

    python benchmarks/gguf_export.py [MODEL ...] [--types f32 q8_0] --peer-python PYTHON [--quick]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pretrain import machine

sys.path.append(str(Path(__file__).parents[1] / "tests"))

PROMPTS = (
    "The capital of France is",
    "Once upon a time there was a",
    "In 2024, 1,234 people",
    "To make bread, you need",
    "The opposite of hot is",
    "def fibonacci(n):\n",
    "Water boils at",
    "My favourite animal is",
)
TEXTS = (
    "don't DON'T  two  spaces\n\n\tand tabs\r\n",
    "Grüße aus Köln – 日本語 🦊 é",
    "x = 12345 + 67.89  # <b>bold</b>",
    " leading and trailing ",
    *PROMPTS,
)
QUESTIONS = ("What is the capital of France?", "Name a colour.", "Who are you?")
CONTEXT = 256


# ---------------------------------------------------------------------- what is asked


def random_models(folder: Path) -> list[Path]:
    """A small model with random weights of every architecture that both know, as in the tests."""
    from gguf_models import CONFIGS, make

    from foundling.text.tokenizer import Tokenizer

    tokenizer, made = Tokenizer.train_bytes(TEXTS, 320), []
    for name, config in CONFIGS.items():
        length = "n_positions" if "n_positions" in config else "max_position_embeddings"
        path = folder / name.replace(" ", "-")
        sizes = {"vocab_size": tokenizer.vocab_size, length: CONTEXT}
        made.append(make(path, {**config, **sizes}, tokenizer))
    return made


def ours(folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """What Foundling makes of the weights in a file."""
    import torch

    from foundling.generation.engine import Engine
    from foundling.runs.run import load_model
    from foundling.text.chat import Message, render_prompt

    model, tokenizer = load_model(folder)
    engine = Engine(model, tokenizer)

    def greedy(ids: list[int]) -> tuple[list[int], list[float]]:
        tokens: list[int] = []
        for chunk in engine.stream(ids, max_tokens=asked["num_tokens"], temperature=0):
            tokens += chunk.tokens
        with torch.no_grad():
            seen = torch.tensor([ids + tokens])
            logits = model.logits(model(seen))[0, len(ids) - 1 : -1]
        best = logits.log_softmax(-1).topk(2).values
        return tokens, (best[:, 0] - best[:, 1]).tolist()

    found: dict[str, Any] = {
        "texts": [tokenizer.encode(text) for text in asked["texts"]],
        "begin": tokenizer.begin_ids,
        "stop": tokenizer.stop_ids,
    }
    prompts = [[*tokenizer.begin_ids, *tokenizer.encode(text)] for text in asked["prompts"]]
    with torch.no_grad():
        found["logits"] = model.logits(model(torch.tensor([prompts[0]])))[0, -1].tolist()
    found["prompts"] = prompts
    found["greedy"] = [greedy(ids) for ids in prompts]
    if asked["questions"] and tokenizer.template is not None:
        chats = [render_prompt([Message("user", q)], tokenizer) for q in asked["questions"]]
        found["chats"] = [(ids, greedy(ids)) for ids in chats]
    return found


def peer(file: str, asked: dict[str, Any]) -> dict[str, Any]:
    """What llama.cpp makes of it; run by --peer-python, which knows nothing of Foundling."""
    import llama_cpp

    fp32 = llama_cpp.GGML_TYPE_F32
    model = llama_cpp.Llama(
        file,
        n_ctx=asked["context"],
        n_threads=asked["threads"],
        n_threads_batch=asked["threads"],
        n_gpu_layers=0,
        type_k=fp32,
        type_v=fp32,
        flash_attn=False,
        verbose=False,
    )
    ends = set(asked["stop"])

    def greedy(ids: Sequence[int]) -> list[int]:
        model.reset()
        tokens: list[int] = []
        for token in model.generate(list(ids), top_k=1, temp=0.0, repeat_penalty=1.0):
            tokens.append(token)
            if token in ends or len(tokens) == asked["num_tokens"]:
                break
        return tokens

    found: dict[str, Any] = {
        "texts": [
            model.tokenize(text.encode(), add_bos=False, special=False) for text in asked["texts"]
        ],
        "begin": model.tokenize(b"", add_bos=True, special=False),
        "ends": [bool(llama_cpp.llama_vocab_is_eog(model._model.vocab, id)) for id in ends],
        "version": llama_cpp.__version__,
    }
    model.eval(asked["prompts"][0])
    logits = llama_cpp.llama_get_logits_ith(model._ctx.ctx, -1)
    found["logits"] = [logits[i] for i in range(model.n_vocab())]
    found["greedy"] = [greedy(ids) for ids in asked["prompts"]]
    found["chats"] = []
    for question, ids in asked.get("chats", ()):
        made = model.create_chat_completion(
            [{"role": "user", "content": question}],
            temperature=0.0,
            max_tokens=asked["num_tokens"],
            repeat_penalty=1.0,
        )
        found["chats"].append(
            [greedy(ids), made["usage"]["prompt_tokens"], made["choices"][0]["finish_reason"]]
        )
    return found


# ---------------------------------------------------------------------- side by side


def compare(mine: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    def parted(one: tuple[list[int], list[float]], other: list[int]) -> dict[str, Any] | None:
        tokens, margins = one
        if tokens == other:
            return None
        at = next(
            (i for i, (a, b) in enumerate(zip(tokens, other, strict=False)) if a != b),
            min(len(tokens), len(other)),
        )
        margin = round(margins[at], 5) if at < len(margins) else None
        return {"token": at, "margin": margin, "ours": tokens[at:][:1], "peer": other[at:][:1]}

    texts = [a == b for a, b in zip(mine["texts"], theirs["texts"], strict=True)]
    apart = [abs(a - b) for a, b in zip(mine["logits"], theirs["logits"], strict=False)]
    greedy = [parted(a, b) for a, b in zip(mine["greedy"], theirs["greedy"], strict=True)]
    found: dict[str, Any] = {
        "texts": f"{sum(texts)}/{len(texts)}",
        "begin": mine["begin"] == theirs["begin"],
        "ends": all(theirs["ends"]),
        "logits": max(apart),
        "greedy": f"{greedy.count(None)}/{len(greedy)}",
        "parted": [each for each in greedy if each],
    }
    if "chats" in mine:
        pairs = list(zip(mine["chats"], theirs["chats"], strict=True))
        chats = [parted(answer, tokens) for (_, answer), (tokens, _, _) in pairs]
        found["chats"] = f"{chats.count(None)}/{len(chats)}"
        found["chat_prompts"] = all(len(ids) == size for (ids, _), (_, size, _) in pairs)
        found["chat_finish"] = [finish for _, (_, _, finish) in pairs]
        found["parted"] += [each for each in chats if each]
    return found


def measure(source: Path, kind: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from foundling.runs.gguf import export_gguf, import_gguf

    file, back = folder / "model.gguf", folder / "back"
    export_gguf(source, file, kind, name="model")
    import_gguf(file, back)
    asked: dict[str, Any] = {
        "texts": TEXTS,
        "prompts": PROMPTS[: arguments.prompts],
        "questions": QUESTIONS[: arguments.chats],
        "num_tokens": arguments.tokens,
        "threads": arguments.threads,
        "context": CONTEXT,
    }
    mine = ours(back, asked)
    asked |= {"prompts": mine["prompts"], "stop": mine["stop"]}
    if "chats" in mine:
        asked["chats"] = [
            (q, ids) for q, (ids, _) in zip(asked["questions"], mine["chats"], strict=True)
        ]
    (folder / "asked.json").write_text(json.dumps(asked), "utf-8")
    command = [arguments.peer_python, sys.argv[0], "--peer", str(file), str(folder / "asked.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-3:]}
    theirs = json.loads(done.stdout.splitlines()[-1])
    size = {"megabytes": round(file.stat().st_size / 1e6, 1)}
    return {**size, **compare(mine, theirs), "version": theirs["version"]}


def main() -> None:
    if sys.argv[1:2] == ["--peer"]:
        print(json.dumps(peer(sys.argv[2], json.loads(Path(sys.argv[3]).read_text("utf-8")))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path, help="runs or model folders")
    parser.add_argument("--types", nargs="+", default=["f32"])
    parser.add_argument("--peer-python", default=sys.executable, help="has llama-cpp-python")
    parser.add_argument("--prompts", type=int, default=len(PROMPTS))
    parser.add_argument("--chats", type=int, default=len(QUESTIONS))
    parser.add_argument("--tokens", type=int, default=40, help="of each greedy text")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="one prompt, few tokens")
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.prompts, arguments.chats, arguments.tokens = 1, 1, 8
    check = [arguments.peer_python, "-c", "import llama_cpp"]
    if subprocess.run(check, capture_output=True).returncode:
        sys.exit(f"llama-cpp-python is not installed in {arguments.peer_python}")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        models = arguments.models or random_models(Path(name))
        for model in models:
            for kind in arguments.types:
                with tempfile.TemporaryDirectory() as work:
                    result = measure(model, kind, arguments, Path(work))
                found[f"{model.name} {kind}"] = result
                if not arguments.json:
                    print(f"{model.name} {kind}: {json.dumps(result)}", file=sys.stderr)
    result = {"name": "gguf", "unit": "equal to llama.cpp", "ours": found}
    print(json.dumps({**result, "machine": machine()}))


if __name__ == "__main__":
    main()
