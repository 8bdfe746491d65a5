"""A client of natter in one file: `pip install websockets`. It keeps the rules of docs/protocol.md ("rule 8" below is one of
them), and `natter conform -- python3 conform.py` puts it through all that a mesh may do to it. Give it addresses, a function that
reads the token, the name of its device and a function that takes events; run `run()` and call `send()`. What must outlive a
restart (the device's name, what has no answer) is left to you."""
import asyncio, contextlib, itertools, json, random, secrets, time
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

AGAIN = {1001, 1005, 1006, 1011, 1012, 1013, 4101, *range(4000, 4100)}  # close codes after which it connects again
# Rule 18: the library asks for a sign of life every 5 s and waits 10 s for it. The node's pings it answers by itself.
OPTIONS = {"subprotocols": ["natter.json.v1"], "ping_interval": 5, "ping_timeout": 10, "close_timeout": 1, "max_size": None}


class Client:
    def __init__(self, urls, token, device, tell):
        self.urls, self.token, self.device, self.tell = urls, token, device, tell
        self.outbox = {}  # ref → what has no answer, in the order in which it was written
        self.have, self.loose, self.gaps = {}, set(), {}  # how far each conversation is; where a hole is meant; holes seen
        self.due, self.acked, self.ack_at, self.token_at, self.hold = {}, {}, 0, 0, 0
        self.refs, self.attempt, self.since = itertools.count(1), int(time.time() * 1000), None
        self.ws, self.user, self.failures, self.back = None, None, 0, None

    def send(self, id, to, body):
        frame = {"op": "send", "ref": next(self.refs), "to": to, "cid": secrets.token_hex(12), "body": body}  # rule 7
        self.outbox[frame["ref"]] = {"id": id, "frame": frame, "written": False, "tries": 0}

    async def run(self):
        for url in itertools.cycle(self.urls):
            code = await self.connection(url)
            if code not in AGAIN:
                return code
            await asyncio.sleep(self.wait())

    def wait(self):  # rules 14, 16 and 17
        back, self.back = self.back, None
        self.failures += 1
        return back if back is not None else min(30, 0.25 * 2**self.failures) * random.uniform(0.5, 1)

    async def connection(self, url):
        writer = None
        try:
            async with connect(url, **OPTIONS) as self.ws:
                self.attempt += 1
                hello = {"token": self.token(), "device": self.device, "attempt": self.attempt, "since": self.since}
                await self.write({"op": "hello", **hello})
                while (frame := await self.heard(15)).get("op") != "welcome":
                    self.on_frame(frame)
                self.on_welcome(frame)
                writer = asyncio.create_task(self.writer())
                while self.on_frame(await self.heard()) != "gap":
                    pass
                return 1006
        except (OSError, WebSocketException, EOFError) as error:
            return error.rcvd.code if getattr(error, "rcvd", None) else 1006
        finally:
            writer and writer.cancel()

    async def close(self):
        with contextlib.suppress(ConnectionClosed, AttributeError):  # there may be no connection
            await self.write_acks()
            await self.ws.close()

    async def write(self, frame):
        await self.ws.send(json.dumps(frame))

    async def heard(self, seconds=None):
        text = await asyncio.wait_for(self.ws.recv(), seconds)
        with contextlib.suppress(ValueError):
            frame = json.loads(text)
            return frame if isinstance(frame, dict) else {}
        return {}

    async def writer(self):
        with contextlib.suppress(ConnectionClosed):  # the reader knows why
            while True:
                if (now := time.monotonic()) >= self.ack_at:  # rule 4
                    await self.write_acks()
                if now >= self.token_at:
                    self.token_at = now + 3600
                    await self.write({"op": "token", "ref": 0, "token": self.token()})
                for item in [item for item in self.outbox.values() if not item["written"]]:
                    if now >= self.hold:
                        item["written"] = True
                        await self.write(item["frame"])
                await asyncio.sleep(0.02)

    async def write_acks(self):
        due, self.due = self.due, {}
        self.acked.update(due)
        for conv, seq in due.items():
            await self.write({"op": "ack", "conv": conv, "seq": seq})

    def on_welcome(self, welcome):
        self.user, self.hold, self.skew = welcome["user"], 0, time.time() - welcome["ts"] / 1000
        self.renew_before(welcome["exp"])
        self.loose.update(self.have if welcome.get("new") else ())
        for item in self.outbox.values():
            item["written"] = False  # rule 10

    def renew_before(self, exp):  # rule 19: a minute before, or half way where there is no minute
        left = exp / 1000 + self.skew - time.time()
        self.token_at = time.monotonic() + (left - 60 if left > 120 else left / 2)

    def on_frame(self, frame):
        with contextlib.suppress(KeyError, TypeError):  # a frame of another version (rule 20)
            op, item = frame.get("op"), self.outbox.get(frame.get("ref"))
            if op == "message":
                return self.on_message(frame["conv"], frame["seq"], frame)
            elif op == "sent" and item:
                self.end(frame["ref"], event="sent", conv=frame["conv"], seq=frame["seq"])
            elif op == "error":
                self.on_error(frame, item)
            elif op == "caught_up":  # rules 15 and 16
                self.failures, self.gaps, self.since = 0, {}, frame.get("since", self.since)
            elif op == "truncated":
                self.loose.add(frame["conv"])
            elif op == "goodbye":
                self.back = frame["reconnect_ms"] / 1000
            elif op == "token_ok":
                self.renew_before(frame["exp"])

    def on_message(self, conv, seq, message):
        for ref, item in list(self.outbox.items()):  # rule 9
            if message["from"] == self.user and message.get("cid") == item["frame"]["cid"]:
                self.end(ref, event="sent", conv=conv, seq=seq)
        have = self.have.get(conv, 0)
        if have and seq > have + 1 and conv not in self.loose and self.gaps.get(conv) != seq:
            self.gaps[conv] = seq  # rule 5: connect anew, from the last acknowledgement. A hole that is there again stays
            return "gap"
        if seq > have:  # rule 3
            self.have[conv] = seq
            self.loose.discard(conv)
            self.tell({"event": "message", **message})
        self.ack_at = self.ack_at if self.due else time.monotonic() + 0.2
        self.due[conv] = self.have[conv]

    def on_error(self, error, item):
        wait = error.get("retry_after_ms", 100 * 2 ** (item["tries"] + 1 if item else 3) * random.uniform(0.5, 1)) / 1000
        if item and not error["retry"]:  # rule 13
            self.end(error["ref"], event="refused", code=error["code"])
        elif item:  # rules 11 and 12: this one waits, and what was written after it
            item["tries"], self.hold = min(item["tries"] + 1, 5), max(self.hold, time.monotonic() + wait)
            for ref, other in self.outbox.items():
                other["written"] = other["written"] and ref < error["ref"]
        elif error["retry"]:  # perhaps it was an acknowledgement
            self.due, self.ack_at = self.acked | self.due, time.monotonic() + wait

    def end(self, ref, **event):
        self.tell({"id": self.outbox.pop(ref)["id"], **event})
