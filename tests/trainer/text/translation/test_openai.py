"""The OpenAI-compatible endpoint, against a live server: answers, faults, retries, budget."""

import json
import time

import pytest

from tests.trainer.text.translation.conftest import KEY, Endpoint, Reply, completion, failure, upper
from trainer.errors import BabelrecError
from trainer.text.settings import ChatTranslatorConfig
from trainer.text.translation.openai import ChatTranslator

TEXTS = ["casa", "玩具总动员", "قصة لعبة", "สวัสดี", "한국어 제목", "🎉 fiesta", 'quote " \\ and\nline']


def translate(config: ChatTranslatorConfig, texts: list[str]) -> list[str]:
    translator = ChatTranslator(config)
    try:
        return [text for batch in translator.translate(texts, "es", "en") for text in batch]
    finally:
        translator.close()


def test_texts_of_every_script_come_back_in_order(endpoint: Endpoint) -> None:
    assert translate(endpoint.config(batch_size=3), TEXTS) == upper(TEXTS)
    assert endpoint.texts == [TEXTS[:3], TEXTS[3:6], TEXTS[6:]]
    request = endpoint.requests[0]
    assert request["model"] == "upper-1"
    assert request["temperature"] == 0
    assert "from the language es into the language en" in request["messages"][0]["content"]


def test_long_texts_get_requests_of_their_own(endpoint: Endpoint) -> None:
    texts = ["short", "長" * 5_000, "x" * 3_000, "y" * 3_000, "end"]
    assert translate(endpoint.config(), texts) == upper(texts)
    assert [len(part) for part in endpoint.texts] == [1, 1, 1, 2]


@pytest.mark.parametrize("parameter", ["max_tokens", "max_completion_tokens"])
def test_the_length_of_an_answer_is_bounded(endpoint: Endpoint, parameter: str) -> None:
    translate(endpoint.config(token_limit_parameter=parameter), ["casa"])
    assert endpoint.requests[0][parameter] >= 3 * len("casa")


@pytest.mark.parametrize("wrapped", ["```json\n{}\n```", "```\n{}\n```", "  {}\n"])
def test_an_answer_may_be_in_a_code_block(endpoint: Endpoint, wrapped: str) -> None:
    endpoint.replies = [completion(wrapped.replace("{}", '["house"]'))]
    assert translate(endpoint.config(), ["casa"]) == ["house"]


@pytest.mark.parametrize("content", ["no", '["one"]', '["a", "b", "c", 4]', '["a", "b", "", "d"]', "{}", None])
def test_a_malformed_answer_is_asked_for_again_in_halves(endpoint: Endpoint, content: str | None) -> None:
    endpoint.replies = [completion(content)]
    texts = ["a", "b", "c", "d"]
    assert translate(endpoint.config(), texts) == upper(texts)
    assert endpoint.texts == [texts, texts[:2], texts[2:]]


def test_what_stays_malformed_is_an_error_that_shows_it(endpoint: Endpoint) -> None:
    endpoint.replies = [completion("I'd rather not.")] * 2
    translator = ChatTranslator(endpoint.config())
    with pytest.raises(BabelrecError, match=r"one translation for 'casa' \(es to en\), but with \"I'd rather not"):
        list(translator.translate(["casa", "perro"], "es", "en"))
    assert endpoint.texts == [["casa", "perro"], ["casa"]]


def test_the_halves_that_were_answered_are_given_out_before_the_error(endpoint: Endpoint) -> None:
    bad = completion("bad")
    endpoint.replies = [bad, completion('["A"]'), bad]
    pieces = ChatTranslator(endpoint.config()).translate(["a", "b"], "es", "en")
    assert next(pieces) == ["A"]
    with pytest.raises(BabelrecError, match="'b'"):
        next(pieces)


def test_a_busy_server_is_asked_again_after_the_time_that_it_says(endpoint: Endpoint) -> None:
    endpoint.replies = [failure(429, "slow down", Retry_After="1"), failure(503, "upgrading")]
    began = time.monotonic()
    assert translate(endpoint.config(), ["casa"]) == ["<CASA>"]
    assert time.monotonic() - began >= 1.0
    assert len(endpoint.requests) == 3


def test_a_server_that_stays_busy_is_an_error(endpoint: Endpoint) -> None:
    endpoint.replies = [failure(429, "out of quota", Retry_After="0")] * 3
    with pytest.raises(BabelrecError, match=r"busy or failed \(429\) in each of 2 attempts: out of quota"):
        translate(endpoint.config(retries=1), ["casa"])
    assert len(endpoint.requests) == 2


def test_a_refused_key_is_named_and_not_shown(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", "sk-wrong")
    with pytest.raises(BabelrecError, match=r"refused the key in \$OTHER_KEY \(401\): Incorrect") as caught:
        translate(endpoint.config(api_key_variable="OTHER_KEY"), ["casa"])
    assert "sk-wrong" not in str(caught.value)
    assert len(endpoint.requests) == 1, "a refused key is not tried again"


def test_a_missing_key_is_an_error_before_any_request(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(BabelrecError, match=r"OPENAI_API_KEY.*is not set"):
        ChatTranslator(endpoint.config())
    assert translate(endpoint.config(api_key_variable=None), ["casa"]) == ["<CASA>"]
    assert len(endpoint.requests) == 1


def test_the_model_has_to_be_named() -> None:
    with pytest.raises(BabelrecError, match="is not set"):
        ChatTranslator(ChatTranslatorConfig())


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (failure(404, "no such model"), r"refused the request \(404\): no such model"),
        ((200, {}, b"<html>hello</html>"), "did not answer with a chat completion"),
        ((200, {}, b'{"choices": []}'), "did not answer with a chat completion"),
        ((400, {}, b"\xff\xfe"), r"refused the request \(400\)"),
    ],
)
def test_other_answers_are_errors(endpoint: Endpoint, reply: Reply, says: str) -> None:
    endpoint.replies = [reply]
    with pytest.raises(BabelrecError, match=says):
        translate(endpoint.config(), ["casa"])
    assert len(endpoint.requests) == 1


def test_the_proxy_of_the_environment_is_used(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    # The endpoint itself acts as the proxy; it sees the whole address as the path.
    monkeypatch.setenv("http_proxy", endpoint.url.removesuffix("/v1"))
    monkeypatch.setenv("no_proxy", "")
    config = endpoint.config().model_copy(update={"base_url": "http://translator.invalid/v1"})
    with pytest.raises(BabelrecError, match=r"refused the request \(404\): no such path"):
        translate(config, ["casa"])
    monkeypatch.setenv("no_proxy", "translator.invalid")
    with pytest.raises(BabelrecError, match="can't be reached"):
        translate(config.model_copy(update={"retries": 0}), ["casa"])


def test_nobody_there() -> None:
    config = ChatTranslatorConfig(base_url="http://127.0.0.1:9/v1", model="m", api_key_variable=None, retries=0)
    with pytest.raises(BabelrecError, match=r"127\.0\.0\.1:9/v1/chat/completions can't be reached: ConnectError"):
        translate(config, ["casa"])


def test_requests_stop_before_their_budget_is_exceeded(endpoint: Endpoint) -> None:
    translator = ChatTranslator(endpoint.config(batch_size=1, max_requests=2))
    pieces = translator.translate(["a", "b", "c"], "es", "en")
    assert [next(pieces), next(pieces)] == [["<A>"], ["<B>"]]
    with pytest.raises(BabelrecError, match=r"2 requests are spent.*max_requests is 2"):
        next(pieces)
    assert len(endpoint.requests) == 2


def test_attempts_count_as_requests(endpoint: Endpoint) -> None:
    endpoint.replies = [failure(503, "wait", Retry_After="0")] * 5
    with pytest.raises(BabelrecError, match="max_requests is 2"):
        translate(endpoint.config(max_requests=2), ["casa"])
    assert len(endpoint.requests) == 2


def test_characters_stop_before_their_budget_is_exceeded(endpoint: Endpoint) -> None:
    with pytest.raises(BabelrecError, match=r"6 characters are spent, it may need 3 more.*max_characters is 8"):
        translate(endpoint.config(batch_size=1, max_characters=8), ["한국어", "abc", "def"])
    assert endpoint.texts == [["한국어"], ["abc"]]


def test_tokens_are_reserved_and_corrected_by_the_endpoint_s_report(endpoint: Endpoint) -> None:
    translator = ChatTranslator(endpoint.config(batch_size=1))
    pieces = translator.translate(["a", "b"], "es", "en")
    next(pieces)
    assert translator.budget.tokens == 10
    endpoint.replies = [completion('["B"]', tokens=None)]
    next(pieces)
    body = {key: value for key, value in endpoint.requests[1].items() if key != "texts"}
    most = sum(len(message["content"].encode()) for message in body["messages"]) + body["max_tokens"]
    assert translator.budget.tokens - 10 >= most, "nothing said: what was set aside counts"


def test_tokens_stop_before_their_budget_is_exceeded(endpoint: Endpoint) -> None:
    with pytest.raises(BabelrecError, match=r"0 tokens are spent.*max_tokens is 100"):
        translate(endpoint.config(max_tokens=100), ["casa"])
    assert endpoint.requests == []


def test_a_failed_attempt_takes_no_tokens(endpoint: Endpoint) -> None:
    endpoint.replies = [failure(500, "broken")]
    translator = ChatTranslator(endpoint.config())
    with pytest.raises(BabelrecError, match="broken"):
        list(translator.translate(["casa"], "es", "en"))
    assert (translator.budget.requests, translator.budget.tokens) == (1, 0)


def test_identity_changes_with_endpoint_and_model(endpoint: Endpoint) -> None:
    one = ChatTranslator(endpoint.config()).identity("es", "en")
    other = ChatTranslator(endpoint.config().model_copy(update={"model": "upper-2"})).identity("es", "en")
    assert one != other
    assert endpoint.url in one
    assert KEY not in json.dumps([one, other])
