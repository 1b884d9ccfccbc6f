"""The official openai SDK, unmodified, against our `/v1/embeddings`."""

import math

import openai
import pytest

TEXTS = ["A heap of stones marks the path.", "Der Kompass zeigt nach Norden. 🧭", "x"]


@pytest.fixture
def sdk(server, model):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=300) as sdk:
        yield sdk


def rows(response):
    assert [row.index for row in response.data] == list(range(len(response.data)))
    return [row.embedding for row in response.data]


def test_a_list_of_texts_becomes_unit_vectors_in_its_order(sdk, model):
    response = sdk.embeddings.create(model=model, input=TEXTS)
    vectors = rows(response)
    assert [len(vector) for vector in vectors] == [384] * 3
    assert [math.hypot(*vector) for vector in vectors] == pytest.approx([1] * 3, abs=1e-4)
    for text, vector in zip(TEXTS, vectors):
        [alone] = rows(sdk.embeddings.create(model=model, input=text))
        # In bfloat16 a short text alone may be summed in another order.
        assert alone == pytest.approx(vector, abs=1e-3), "a batch changes nothing"


def test_base64_and_float_are_the_same_numbers(sdk, model):
    default = rows(sdk.embeddings.create(model=model, input=TEXTS))  # the SDK asks for base64
    floats = rows(sdk.embeddings.create(model=model, input=TEXTS, encoding_format="float"))
    # A float is printed in its shortest f32 form, base64 is read into wider ones.
    assert [v for row in default for v in row] == pytest.approx([v for row in floats for v in row], abs=1e-6)
    encoded = sdk.embeddings.create(model=model, input=TEXTS[0], encoding_format="base64")
    assert isinstance(encoded.data[0].embedding, str)


def test_usage_counts_the_tokens_of_all_texts(sdk, model):
    one = sdk.embeddings.create(model=model, input=TEXTS[0])
    two = sdk.embeddings.create(model=model, input=[TEXTS[0], TEXTS[0]])
    assert 5 < one.usage.prompt_tokens < 20
    assert one.usage.total_tokens == one.usage.prompt_tokens
    assert two.usage.prompt_tokens == 2 * one.usage.prompt_tokens
    assert one.object == "list"
    assert model in one.model


def test_the_long_name_of_the_model_means_the_same(sdk, model):
    [short] = rows(sdk.embeddings.create(model=model, input=TEXTS[0]))
    [long] = rows(sdk.embeddings.create(model=f"sentence-transformers/{model}", input=TEXTS[0]))
    assert short == long


def test_a_text_longer_than_the_model_reads_is_cut_not_refused(sdk, model):
    [vector] = rows(sdk.embeddings.create(model=model, input="stones " * 5000))
    assert math.hypot(*vector) == pytest.approx(1, abs=1e-4)


def test_an_unknown_model_is_an_error_that_names_it(sdk):
    with pytest.raises(openai.APIStatusError) as error:
        sdk.embeddings.create(model="no-such-model", input="x")
    assert error.value.status_code in (400, 404)
    assert "no-such-model" in error.value.message
    # The SDK found the message in OpenAI's own error shape.
    assert error.value.body["message"]


@pytest.mark.parametrize("input", ["", [], ["x", ""]], ids=["empty text", "no text", "one empty"])
def test_an_empty_input_is_a_bad_request(sdk, model, input):
    with pytest.raises(openai.BadRequestError) as error:
        sdk.embeddings.create(model=model, input=input)
    assert "empty" in error.value.message or "input" in error.value.message
