"""Tokens of texts and back, as lm-evaluation-harness asks for them."""

from fastapi.testclient import TestClient

from foundling.generation.engine import Engine


def test_texts_become_tokens_and_back(client: TestClient, engine: Engine) -> None:
    tokenizer, text = engine.tokenizer, "the miller — naïve 🦆"
    made = client.post("/tokenize", json={"prompt": text, "add_special_tokens": False}).json()
    assert made["tokens"] == tokenizer.encode(text)
    assert (made["count"], made["max_model_len"]) == (len(made["tokens"]), 64)
    again = client.post("/detokenize", json={"tokens": made["tokens"]}).json()
    assert again["prompt"] == text
    begun = client.post("/tokenize", json={"prompt": text}).json()["tokens"]
    assert begun == [*tokenizer.begin_ids, *made["tokens"]]


def test_the_marks_are_told_and_each_is_one_token(client: TestClient, engine: Engine) -> None:
    info = client.get("/tokenizer_info").json()
    assert info["eos_token"] == engine.tokenizer.end_name
    assert info["chat_template"]
    for key, id in (("eos_token", engine.tokenizer.end_of_text), ("pad_token", 2)):
        body = {"prompt": info[key], "add_special_tokens": False}
        tokens = client.post("/tokenize", json=body).json()["tokens"]
        assert len(tokens) == 1
        assert key == "pad_token" or tokens == [id]


def test_strange_tokens_are_refused(client: TestClient) -> None:
    for tokens in ([-1], [10**6], ["a"]):
        assert client.post("/detokenize", json={"tokens": tokens}).status_code == 400
    assert client.post("/tokenize", json={"prompt": "a", "model": "none"}).status_code == 404
    assert client.get("/tokenizer_info?model=none").status_code == 404
