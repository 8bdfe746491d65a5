"""A service in Python: sends to a user over NATS, tries again, is refused, hears who is offline. Prints one JSON line
for each answer. Started by tests/it/deploy/nats_py.rs with the server's address and the password of account billing."""

import asyncio
import json
import sys

import nats


async def main(url, password):
    nc = await nats.connect(
        url, user="billing", password=password, inbox_prefix=b"_INBOX_billing", allow_reconnect=False
    )
    offline = await nc.subscribe("natter.event.offline")
    await nc.flush()

    async def send(user, **message):
        answer = await nc.request(f"natter.send.billing.user.{user}", json.dumps(message).encode(), timeout=10)
        print(json.dumps(json.loads(answer.data)), flush=True)

    await send("bob", cid="py-1", body={"text": "invoice 17", "due": 12.5})
    await send("bob", cid="py-1", body={"text": "invoice 17", "due": 12.5})
    await send("bob", cid="py-2", body=None)
    await send("bob", cid="py-3")
    await send("nobody", cid="py-4", body="hello?")
    event = await offline.next_msg(timeout=10)
    print(json.dumps(json.loads(event.data)), flush=True)
    await nc.close()


asyncio.run(main(*sys.argv[1:]))
