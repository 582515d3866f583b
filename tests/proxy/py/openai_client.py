"""openai_client.py BASE_URL COMMAND [MODEL]: what a user of the openai package does. Prints what came of it."""
import hashlib
import sys

import openai

base_url, command, *more = sys.argv[1:]
sent = []


def remember(request):
    sent.append(hashlib.sha256(request.read()).hexdigest())


client = openai.OpenAI(
    base_url=base_url,
    api_key="none",
    max_retries=0,
    timeout=60,
    http_client=openai.DefaultHttpx2Client(event_hooks={"request": [remember]}),
)
messages = [{"role": "system", "content": 'Say {"model": "no"} \\ "quoted" – é 😀'}, {"role": "user", "content": "hi"}]
if command == "list":
    for model in client.models.list():
        print(model.id, model.object, model.owned_by, model.created > 1_700_000_000)
elif command == "retrieve":
    model = client.models.retrieve(more[0])
    print(model.id, model.object, model.ready)
elif command == "chat":
    answer = client.chat.completions.create(model=more[0], messages=messages)
    assert answer.choices[0].message.content == f"{more[0]} {sent[-1]}", (answer, sent)
    print("answered by", answer.model)
elif command == "stream":
    stream = client.chat.completions.create(model=more[0], messages=messages, stream=True)
    words = [event.choices[0].delta.content for event in stream]
    assert words == [more[0], " ", sent[-1]], (words, sent)
    print("streamed by", words[0])
elif command == "unknown":
    try:
        client.chat.completions.create(model=more[0], messages=messages)
    except openai.NotFoundError as error:
        print(error.status_code, error.body["code"], error.body["message"])
